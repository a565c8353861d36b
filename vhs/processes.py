"""Which part of the prompts this process works on: accelerate's processes behind one adapter."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from vhs.errors import ConfigError


@dataclass(frozen=True)
class Process:
    """Process `index` of `count`; `local` is its number on its machine; `wait` returns when all have called it;
    `agreed(value)` is the first process's value in all of them."""

    index: int = 0
    count: int = 1
    local: int = 0
    wait: Callable[[], None] = lambda: None
    agreed: Callable[[Any], Any] = lambda value: value

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
    """This process among those that `accelerate launch` or `torchrun` started, or the only one.

    Raises ConfigError where the environment names several processes but not how they meet.
    """
    world = os.environ.get("WORLD_SIZE") or "1"
    if not world.isdecimal() or int(world) < 1:
        raise ConfigError(f"WORLD_SIZE: {world!r} is not a number of processes; unset it, or use accelerate launch")
    if int(world) == 1:
        return Process()
    if missing := [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]:
        raise ConfigError(
            f"WORLD_SIZE: {world} processes, but {', '.join(missing)} is not set; start them with accelerate launch or "
            "torchrun, or unset WORLD_SIZE"
        )
    import torch
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    # where one process labels or evaluates for the others, they wait for hours, not for torch's ten minutes
    state = PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(days=7))
    return Process(
        state.process_index,
        state.num_processes,
        state.local_process_index,
        state.wait_for_everyone,
        lambda value: broadcast_object_list([value])[0],
    )
