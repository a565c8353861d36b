"""One model alone: a forward pass at the size that a run has for it, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from vhs.checkpoints.boundary import loading
from vhs.device import resolve_device, resolve_dtype
from vhs.generators.architecture import read_generator_info, shipped_architecture
from vhs.generators.base import GeneratorInfo
from vhs.generators.settings import GeneratorSettings
from vhs.measure.ceiling import matmul_flops_per_second
from vhs.measure.config import BenchConfig
from vhs.measure.counted import QUESTION_TOKENS, counted_question, text_tokens
from vhs.measure.latency import latency
from vhs.measure.memory import LiveMemory, peak_bytes, size
from vhs.measure.random_models import places, random_generator, random_verifier
from vhs.measure.stages import flop_counter
from vhs.paths import find
from vhs.verifiers.llava import next_token_logits

Pass = Callable[[int], Any]


@torch.no_grad()
def measure_part(config: BenchConfig, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """One row per batch size of `config.num_samples`."""
    device = resolve_device(config.device)
    dtype = resolve_dtype(config.dtype, device)
    forward, weights = _tried(config, device, dtype)
    rows = []
    for batch in config.num_samples:
        time = latency(lambda batch=batch: forward(batch), device, config.repeats, config.warmup)
        with flop_counter() as counter:
            forward(batch)
        flops = counter.get_total_flops()
        rows.append(
            {
                "part": config.part,
                "batch_size": batch,
                "median_ms": round(time.median, 3),
                "p5_ms": round(time.p5, 3),
                "p95_ms": round(time.p95, 3),
                "tflop": round(flops / 1e12, 6),
                "mfu": round(flops / (time.median / 1000) / matmul_flops_per_second(device, dtype), 4),
                "peak_bytes": peak_bytes(lambda batch=batch: forward(batch), weights, device),
            }
        )
        say(f"{config.part}, batch of {batch}: {time.median:.1f} ms")
    return rows


@torch.no_grad()
def count_part(config: BenchConfig, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """The same without times, on the meta device: nothing runs, in the precision of a GPU."""
    forward, weights = _tried(config, "meta", resolve_dtype(config.dtype, "meta"))
    rows = []
    for batch in config.num_samples:
        with LiveMemory() as memory, flop_counter() as counter:
            forward(batch)
        flops = counter.get_total_flops()
        rows.append(
            {
                "part": config.part,
                "batch_size": batch,
                "tflop": round(flops / 1e12, 6),
                "peak_bytes": memory.peak + weights,
            }
        )
        say(f"{config.part}, batch of {batch}: {flops / 1e12:.2f} TFLOP")
    return rows


def _tried(config: BenchConfig, device: str, dtype: str) -> tuple[Pass, int]:
    """A forward pass of the part at a batch size, and its bytes; what its sizes make of the first is one line."""
    forward, weights = PARTS[config.part](config, device, dtype)
    with loading("architecture", ", ".join([config.run, *map(places, config.verifiers.values())])):
        forward(1)
    return forward, weights


def _text_encoder(config: BenchConfig, device: str, dtype: str) -> tuple[Pass, int]:
    generator = random_generator(config.of_run(), device, dtype)
    encoder, tokens = generator.pipeline.text_encoder, text_tokens(generator.settings)
    ids = torch.ones(1, tokens, dtype=torch.long, device=device)
    return lambda batch: encoder(ids.expand(batch, -1)), size(encoder)


def _decoder(config: BenchConfig, device: str, dtype: str) -> tuple[Pass, int]:
    generator = random_generator(config.of_run(), device, dtype)
    vae, shape = generator.pipeline.vae, generator.info.latent_shape
    return lambda batch: vae.decode(torch.zeros(batch, *shape, device=device, dtype=vae.dtype)), size(vae)


def _language_model(config: BenchConfig, device: str, dtype: str) -> tuple[Pass, int]:
    label, values = next((label, values) for label, values in config.verifiers.items() if label != "clip")
    info = _info(config, device, dtype)
    verifier = random_verifier(label, values["architecture"], None, info, None)
    tokens = torch.zeros(1, info.tokens, verifier.llm.config.hidden_size, device=device, dtype=verifier.dtype)
    question = counted_question(QUESTION_TOKENS)
    return lambda batch: next_token_logits(verifier.llm, tokens.expand(batch, -1, -1), question), size(verifier.llm)


def _tower(config: BenchConfig, device: str, dtype: str) -> tuple[Pass, int]:
    values, info = config.verifiers["clip"], _info(config, device, dtype)
    tower = random_verifier("clip", values["architecture"], values["tower"], info, None).reader.tower
    side = tower.tower.config.image_size
    return lambda batch: tower(torch.zeros(batch, 3, side, side, device=device)), size(tower)


def _detector(config: BenchConfig, device: str, dtype: str) -> tuple[Pass, int]:
    """GenEval's detector runs in float32 whatever the run's precision, at its shortest side of 800 pixels."""
    from transformers import Mask2FormerForUniversalSegmentation

    from vhs.geneval.mmdet_checkpoint import coco_config

    model = Mask2FormerForUniversalSegmentation(coco_config()).eval().to(device)
    return lambda batch: model(pixel_values=torch.zeros(batch, 3, 800, 800, device=device)), size(model)


def _info(config: BenchConfig, device: str, dtype: str) -> GeneratorInfo:
    run = config.of_run()
    return read_generator_info(
        shipped_architecture(run.ckpt) or find(run.ckpt), GeneratorSettings.of(run, device, dtype)
    )


PARTS = {
    "text_encoder": _text_encoder,
    "decoder": _decoder,
    "language_model": _language_model,
    "tower": _tower,
    "detector": _detector,
}
