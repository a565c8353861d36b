"""Where a run's time goes: seconds, calls and items per stage."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

STAGES = ("encode", "noise", "prefix", "score", "finish", "generate", "decode", "rerank", "judge", "save")
"""Every stage a prompt can go through, in order; `prefix` and `finish` together, or `generate` alone; `rerank` in a
cascade."""


@dataclass
class Stage:
    """Wall-clock seconds, calls, and items (prompts or candidates) of one stage."""

    seconds: float = 0.0
    calls: int = 0
    items: int = 0


@dataclass
class StageTimes:
    """A stopwatch per stage. `wait` blocks until the device is idle; else a GPU's stage ends when it is queued."""

    wait: Callable[[], None] | None = None
    stages: dict[str, Stage] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, items: int = 1) -> Iterator[None]:
        """Adds the time inside the context to `name`; a stage that raises is not counted."""
        assert name in STAGES, name
        start = self._now()
        yield
        spent = self._now() - start
        stage = self.stages.setdefault(name, Stage())
        stage.seconds += spent
        stage.calls += 1
        stage.items += items

    def as_dict(self) -> dict[str, dict[str, float | int]]:
        """Plain numbers, in the order of STAGES."""
        return {name: asdict(self.stages[name]) for name in STAGES if name in self.stages}

    def _now(self) -> float:
        if self.wait is not None:
            self.wait()
        return time.perf_counter()


def total(rows: list[dict[str, dict[str, float | int]]]) -> dict[str, dict[str, float | int]]:
    """The sum of several `as_dict()` results."""
    sums = StageTimes()
    for row in rows:
        for name, stage in row.items():
            into = sums.stages.setdefault(name, Stage())
            into.seconds += stage["seconds"]
            into.calls += int(stage["calls"])
            into.items += int(stage["items"])
    return sums.as_dict()
