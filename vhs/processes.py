"""Which part of the prompts this process works on: accelerate's processes behind one adapter."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Process:
    """Process `index` of `count`; `local` is its number on its machine; `wait` returns when all have called it."""

    index: int = 0
    count: int = 1
    local: int = 0
    wait: Callable[[], None] = lambda: None

    @property
    def first(self) -> bool:
        """The process that writes what belongs to the whole run."""
        return self.index == 0

    def of(self, items: Sequence[int], index: int | None = None) -> list[int]:
        """One contiguous slice of `items` per process; the first `len(items) % count` processes take one more."""
        index = self.index if index is None else index
        size, extra = divmod(len(items), self.count)
        start = index * size + min(index, extra)
        return list(items[start : start + size + (index < extra)])


def current_process() -> Process:
    """This process among those that `accelerate launch` started, or the only one."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Process()
    import torch
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available())
    return Process(state.process_index, state.num_processes, state.local_process_index, state.wait_for_everyone)
