"""How long work takes on this machine: after a warm-up, by CUDA events on a GPU and a stopwatch elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Latency:
    """Milliseconds of repeated work: the median, the 5th and the 95th percentile (linearly interpolated)."""

    median: float
    p5: float
    p95: float
    repeats: int

    @classmethod
    def of(cls, milliseconds: Sequence[float]) -> Latency:
        """Of one measurement or more."""
        low, middle, high = np.percentile(milliseconds, (5, 50, 95))
        return cls(float(middle), float(low), float(high), len(milliseconds))


def latency(work: Callable[[], Any], device: str, repeats: int, warmup: int = 1) -> Latency:
    """Of `repeats` calls of `work`, each timed alone, after `warmup` calls that are not counted.

    On a CUDA device a call lasts from an event recorded before it to one after it, so it ends when the device is done.
    """
    for _ in range(warmup):
        work()
    return Latency.of([once(work, device) for _ in range(repeats)])


def once(work: Callable[[], Any], device: str) -> float:
    """Milliseconds of one call of `work`."""
    return _by_events(work, device) if device.startswith("cuda") else _by_stopwatch(work)


def in_turn(works: Sequence[Callable[[], Any]], device: str, repeats: int, warmup: int = 1) -> np.ndarray:
    """(repeats, works) milliseconds, one call of each after another, so that what disturbs the machine disturbs all."""
    for _ in range(warmup):
        for work in works:
            work()
    return np.array([[once(work, device) for work in works] for _ in range(repeats)])


def _by_stopwatch(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - start)


def _by_events(work: Callable[[], Any], device: str) -> float:
    import torch

    with torch.cuda.device(device):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        work()
        end.record()
        end.synchronize()
    return start.elapsed_time(end)
