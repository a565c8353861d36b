"""How long a run will take, from its own first prompts: one to warm up, two that are timed."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vhs.config.run import RunConfig
from vhs.errors import PromptError
from vhs.resolve import resolve
from vhs.runs import seeds
from vhs.runs.folder import RunFolder
from vhs.runs.report.data import read_run
from vhs.runs.runner import carry_out

TIMED = 2


@dataclass(frozen=True)
class Estimate:
    """Seconds of each timed prompt, judging and saving included; how many prompts the run has over all seeds and
    processes; bytes at the peak of a GPU's memory (None on a CPU)."""

    seconds: tuple[float, ...]
    prompts: int
    processes: int
    peak: int | None

    @property
    def hours(self) -> float:
        """Of the whole run."""
        return sum(self.seconds) / len(self.seconds) * self.prompts / self.processes / 3600

    def text(self) -> str:
        """One line, or two with a GPU."""
        each = " and ".join(f"{one:.2f} s" for one in self.seconds)
        several = f" in {self.processes} processes" if self.processes > 1 else ""
        line = f"time: {_readable(self.hours)}{several}, from two prompts of {each} (loading is not in it)"
        return line if self.peak is None else f"{line}\nmemory: {self.peak / 2**30:.2f} GiB at the peak, measured"


def estimate(config: RunConfig, say: Callable[[str], None]) -> Estimate:
    """Runs the first three prompts in a folder that is deleted again. Raises what a run would."""
    run = resolve(seeds.runs_of(config)[0])
    first = run.prompts[: TIMED + 1]
    if len(first) <= TIMED:
        raise PromptError(
            f"{config.annotation}: {len(first)} prompts; --estimate times two after a warm-up, so three are needed"
        )
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "prompts.json"
        file.write_text(json.dumps([prompt.record for prompt in first]), encoding="utf-8")
        some = {"annotation": str(file), "output_path": place, "cont": False, "overwrite": False}
        trial = resolve(run.config.changed(**some))
        peak = _peak(run.models.device)
        carry_out(trial, say, bar=False)
        times = read_run(RunFolder(trial.config).root).timings
        spent = [sum(stage["seconds"] for stage in times[f"{index:05d}"].values()) for index in range(1, TIMED + 1)]
        everyone = len(run.prompts) * len(config.seeds or [0])
        return Estimate(tuple(spent), everyone, run.process.count, peak())


def _peak(device: str) -> Callable[[], int | None]:
    """Begins to watch a GPU's memory; what is returned gives the peak since."""
    if not device.startswith("cuda"):
        return lambda: None
    import torch

    torch.cuda.reset_peak_memory_stats(device)
    return lambda: torch.cuda.max_memory_allocated(device)


def _readable(hours: float) -> str:
    seconds = round(3600 * hours)
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds / 60:.0f} min" if hours < 2 else f"{hours:.1f} h"
