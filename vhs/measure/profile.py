"""`--profile`: where the time of prompts goes, stage by stage, and a trace that Perfetto opens (https://ui.perfetto.dev)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vhs.errors import RunError
from vhs.stages import StageTimes

if TYPE_CHECKING:
    from vhs.best_of_n import BestOfN
    from vhs.records import Prompt


class NamedStages(StageTimes):
    """A stopwatch whose stages are also spans of a torch profiler's trace."""

    @contextmanager
    def stage(self, name: str, items: int = 1) -> Iterator[None]:
        with torch.profiler.record_function(name), super().stage(name, items):
            yield


def profile(method: BestOfN, prompt: Prompt, count: int, repeats: int, trace: Path) -> dict[str, Any]:
    """Mean milliseconds of each stage over `repeats` calls after one that is not counted, and of a whole call.

    `other_ms` is what no stage has. The device is waited for after every stage. One further call is traced into
    `trace`.
    """
    device = method.generator.info.device
    wait = (lambda: torch.cuda.synchronize(device)) if device.startswith("cuda") else None
    before, method.times = method.times, NamedStages(wait)
    try:
        method(prompt, num_samples=count)
        method.times.stages.clear()
        start = time.perf_counter()
        for _ in range(repeats):
            method(prompt, num_samples=count)
        whole = 1000 * (time.perf_counter() - start) / repeats
        stages = {name: 1000 * stage["seconds"] / repeats for name, stage in method.times.as_dict().items()}
        with torch.profiler.profile() as traced:
            method(prompt, num_samples=count)
        traced.export_chrome_trace(str(trace))
    finally:
        method.times = before
    other = whole - sum(stages.values())
    return {"whole_ms": whole, "stages_ms": stages, "other_ms": other, "trace": str(trace)}


def require_writable(folder: Path) -> None:
    """Raises RunError where no trace could be written into `folder`, which is made."""
    probe = folder / ".trace"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise RunError(
            f"--profile: {folder}: a trace cannot be written there ({error.strerror}); choose another folder"
        ) from None
