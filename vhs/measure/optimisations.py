"""`vhs benchmark run --without`: the method with each optimisation against the method without it, in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vhs import compiled
from vhs.best_of_n import BestOfN
from vhs.config.yamlfile import nearest
from vhs.errors import ConfigError
from vhs.generators import sana_sprint
from vhs.generators import text as gemma
from vhs.measure.bench import Row, methods, models_of
from vhs.measure.latency import in_turn
from vhs.measure.memory import peak_bytes, size
from vhs.records import Prompt
from vhs.verifiers import shared_text

if TYPE_CHECKING:
    from vhs.measure.config import BenchConfig
    from vhs.result import Result

LONGEST_TEXT = 1 << 20
"""Tokens; more than any text encoder takes."""


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """`owner.name` is `value` inside the context."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@dataclass(frozen=True)
class Optimisation:
    """What makes a prompt cheaper, and how to do without it: a context in which a method is built and called, and keys
    of the benchmark."""

    about: str
    without: Callable[[], AbstractContextManager[None]] = nullcontext
    keys: dict[str, Any] = field(default_factory=dict)
    compiled: bool = False
    """Whether it is there with `compile: true` alone."""


OPTIMISATIONS = {
    "text_rows": Optimisation(
        "the blocks' keys and values of the text, and its projection, once instead of for every candidate",
        partial(_replaced, sana_sprint, "share_text", lambda transformer: None),
    ),
    "question": Optimisation(
        "the question before the picture once a pass of the language model (float32 on a CPU)",
        partial(_replaced, shared_text, "pays", lambda llm: False),
    ),
    "streaming": Optimisation(
        "the states of the best alone are kept",
        partial(_replaced, BestOfN, "_streams", lambda method: False),
    ),
    "micro_batch": Optimisation("several candidates a pass", keys={"micro_batch": 1}),
    "compile": Optimisation("compiled layers and recorded passes", keys={"compile": False}, compiled=True),
    "graphs": Optimisation(
        "recorded passes, of compiled layers either way",
        partial(_replaced, compiled.Graphed, "__call__", lambda graph, *tensors: graph._function(*tensors)),
        compiled=True,
    ),
    "padding": Optimisation(
        "what pads a text does not go through the text encoder",
        partial(_replaced, gemma, "STEP", LONGEST_TEXT),
        compiled=True,
    ),
    "grouped": Optimisation(
        "the decoder's grouped convolutions as matrix products",
        partial(_replaced, sana_sprint, "multiply_groups", lambda model: None),
        compiled=True,
    ),
}


def choose(names: Sequence[str], config: BenchConfig) -> dict[str, Optimisation]:
    """Those of these names, all that `config` has for none. Raises ConfigError on a name that is none of them."""
    here = {name: one for name, one in OPTIMISATIONS.items() if config.compile or not one.compiled}
    for name in names:
        if name not in OPTIMISATIONS:
            raise ConfigError(f"--without: {name}: no such optimisation{nearest(name, here)}; one of {', '.join(here)}")
        if name not in here:
            raise ConfigError(f"--without: {name}: is there with compile: true alone")
    return {name: here[name] for name in names or here}


def measure_without(config: BenchConfig, names: Sequence[str], say: Callable[[str], None]) -> list[Row]:
    """One row per verifier, optimisation and N: both times, how many times as long it takes without, both peaks, and
    how far the scores differ. Both are called in turn, so that what disturbs the machine disturbs both."""
    chosen, rows = choose(names, config), []
    for label in config.verifiers:
        alone = config.model_copy(update={"verifiers": {label: config.verifiers[label]}})
        [(_, method)] = methods(alone)
        for name, one in chosen.items():
            with one.without():
                [(_, plain)] = methods(alone.model_copy(update=one.keys))
            for count in config.num_samples:
                rows.append({"verifier": label, "without": name, "num_samples": count})
                rows[-1] |= _compared(method, plain, one, Prompt(0, config.prompt), count, config)
                say(f"{label}, N = {count}, without {name}: {rows[-1]['ratio']:.3f} times as long")
    return rows


def _compared(
    method: BestOfN, plain: BestOfN, one: Optimisation, prompt: Prompt, count: int, config: BenchConfig
) -> Row:
    device = method.generator.info.device

    def with_it() -> Result:
        return method(prompt, num_samples=count)

    def without_it() -> Result:
        with one.without():
            return plain(prompt, num_samples=count)

    times = in_turn((with_it, without_it), device, config.repeats, config.warmup)
    low, ratio, high = np.percentile(times[:, 1] / times[:, 0], (5, 50, 95))
    on, off = np.median(times, axis=0)
    scores = [torch.tensor(work().scores) for work in (with_it, without_it)]
    weights = sum(map(size, models_of(method)))
    return {
        "with_ms": round(float(on), 3),
        "without_ms": round(float(off), 3),
        "ratio": round(float(ratio), 4),
        "ratio_p5": round(float(low), 4),
        "ratio_p95": round(float(high), 4),
        "with_peak_bytes": peak_bytes(with_it, weights, device),
        "without_peak_bytes": peak_bytes(without_it, weights, device),
        "largest_score_difference": float((scores[0] - scores[1]).abs().max()),
    }
