"""`vhs benchmark run`: what best-of-N costs on this machine, per verifier and N."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from vhs.best_of_n import BestOfN
from vhs.checkpoints.boundary import loading
from vhs.compiled import eagerly
from vhs.device import resolve_device, resolve_dtype
from vhs.errors import ConfigError
from vhs.measure.budget import fits
from vhs.measure.ceiling import matmul_flops_per_second
from vhs.measure.config import BenchConfig
from vhs.measure.latency import latency
from vhs.measure.memory import peak_bytes, size
from vhs.measure.random_models import places
from vhs.measure.stages import ORDER, StageFlops
from vhs.records import Prompt
from vhs.resolve import resolve_models
from vhs.stages import StageTimes

if TYPE_CHECKING:
    from vhs.generators.base import Generator
    from vhs.verifiers.base import Verifier

CANDIDATES = ("prefix", "score")
"""Stages that every candidate of a hidden-state verifier goes through."""
Row = dict[str, Any]


def methods(config: BenchConfig) -> Iterator[tuple[str, BestOfN]]:
    """By label, the method with each verifier of the configuration; one verifier is loaded at a time.

    Raises a VHSError for what is wrong in the run's configuration or not here.
    """
    generator = None
    for label, values in config.verifiers.items():
        generator, verifier = _loaded(config, label, generator)
        method = BestOfN(generator, verifier, seed=config.of_run().seed, mode="prod")
        if config.random_weights:  # sizes that do not go together show in a pass, and no file of weights has said so
            with loading("architecture", places(values)), eagerly():  # compiled it would take seconds for a size apart
                method(Prompt(0, config.prompt), num_samples=1)
        yield label, method


def _loaded(config: BenchConfig, label: str, generator: Generator | None) -> tuple[Generator, Verifier]:
    run, values = config.of_run(label), config.verifiers[label]
    if config.random_weights:
        from vhs.measure.random_models import random_generator, random_verifier

        device = resolve_device(config.device)
        generator = generator or random_generator(run, device, resolve_dtype(config.dtype, device))
        verifier = random_verifier(label, values["architecture"], values.get("tower"), generator.info, config.at_once)
        if config.compile:
            verifier.compile()
        return generator, verifier
    models = resolve_models(run)
    if models.verifier.kind == "none":
        keys = "latent_verifier_path or latent_verifier_name"
        raise ConfigError(f"verifiers: {label}: no keys that name a verifier; give {keys}, or random_weights: true")
    return generator or models.load_generator(), models.load_verifier()


def measure(config: BenchConfig, say: Callable[[str], None]) -> list[Row]:
    """One row per verifier and N: latency, FLOPs by stage, memory, rates and utilisation."""
    rows = []
    for label, method in methods(config):
        for count in config.num_samples:
            rows.append({"verifier": label, "num_samples": count, **_measured(method, count, config)})
            say(f"{label}, N = {count}: {rows[-1]['median_ms']:.1f} ms")
    return rows


def _measured(method: BestOfN, count: int, config: BenchConfig) -> Row:
    device, dtype, prompt = method.generator.info.device, method.generator.info.dtype, Prompt(0, config.prompt)

    def work() -> None:
        method(prompt, num_samples=count)

    time = latency(work, device, config.repeats, config.warmup)
    flops = _flops(method, work)
    stages = stage_seconds(method, work, device, config.repeats)
    ceiling = matmul_flops_per_second(device, dtype)
    scored = sum(flops.get(name, 0) for name in ("prefix", "connector", "LLM"))
    seconds = sum(stages.get(name, 0.0) for name in CANDIDATES)
    return {
        "median_ms": round(time.median, 3),
        "p5_ms": round(time.p5, 3),
        "p95_ms": round(time.p95, 3),
        "candidates_per_second": round(1000 * count / time.median, 3),
        "flops": flops,
        "tflop": round(sum(flops.values()) / 1e12, 6),
        "stage_ms": {name: round(1000 * value, 3) for name, value in stages.items()},
        "mfu": round(sum(flops.values()) / (time.median / 1000) / ceiling, 4),
        "candidates_mfu": round(scored / seconds / ceiling, 4) if method.verifier.reads == "hidden" else None,
        "peak_bytes": peak_bytes(work, sum(map(size, models_of(method))), device),
    }


def _flops(method: BestOfN, work: Callable[[], None]) -> dict[str, int]:
    """FLOPs of `work`, which calls `method`, by the names of a cost table."""
    before, method.times = method.times, StageFlops(method.verifier)
    try:
        with eagerly():
            work()
        flops = method.times.flops
    finally:
        method.times = before
    return {name: flops[name] for name in ORDER if flops[name]}


def stage_seconds(method: BestOfN, work: Callable[[], None], device: str, repeats: int) -> dict[str, float]:
    """Mean seconds of each stage when the device is waited for after every one."""
    wait = (lambda: torch.cuda.synchronize(device)) if device.startswith("cuda") else None
    before, method.times = method.times, StageTimes(wait)
    try:
        for _ in range(repeats):
            work()
        return {name: stage["seconds"] / repeats for name, stage in method.times.as_dict().items()}
    finally:
        method.times = before


def models_of(method: BestOfN) -> list[torch.nn.Module]:
    """The modules that hold a method's weights."""
    parts = [*method.generator.pipeline.components.values()]
    verifier = method.verifier
    parts += [getattr(verifier, "llm", None), getattr(verifier, "connector", None)]
    parts += [getattr(getattr(verifier, "reader", None), "tower", None)]
    return [part for part in parts if isinstance(part, torch.nn.Module)]


def machine(config: BenchConfig) -> Row:
    """What the figures were made with: device, precision, its measured ceiling, versions."""
    device = resolve_device(config.device)
    dtype = resolve_dtype(config.dtype, device)
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.machine()
    return {
        "device": device,
        "processor": name,
        "threads": torch.get_num_threads(),
        "dtype": dtype,
        "matmul_tflops_per_second": round(matmul_flops_per_second(device, dtype) / 1e12, 4),
        "torch": torch.__version__,
        "random_weights": config.random_weights,
    }


def spent(config: BenchConfig, budgets: Sequence[float]) -> list[Row]:
    """One row per verifier and budget in milliseconds: the largest N that fits (0: none), and what a further candidate
    costs."""
    rows = []
    for label, method in methods(config):
        found = fits(method, Prompt(0, config.prompt), budgets, config.repeats)
        rows += [{"verifier": label, **asdict(one), "ms_per_candidate": one.ms_per_candidate} for one in found]
    return rows
