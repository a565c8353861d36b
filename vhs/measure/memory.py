"""What is held in memory while something runs: every tensor's bytes, from its creation to its end.

It counts tensors without storage as well, on the meta device. What a GPU adds (its context, the allocator's rounding,
libraries' workspaces) is not in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GIB = 2**30


class LiveMemory(TorchDispatchMode):
    """Bytes of the tensors that operators make inside the context: `live` now, `peak` at most since `restart`.

    What was there before, such as weights, is not counted, nor are views of it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._held: dict[int, tuple[StorageWeakRef, int]] = {}
        self._foreign: dict[int, StorageWeakRef] = {}  # a weak reference also keeps an address from being used again
        self.peak = 0

    @property
    def live(self) -> int:
        """Bytes that are still referenced; views share their storage and count once."""
        self._held = {key: held for key, held in self._held.items() if not held[0].expired()}
        return sum(size for _, size in self._held.values())

    def restart(self) -> None:
        """`peak` begins again from what is live."""
        self.peak = self.live

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        for storage in _storages((args, kwargs)):
            if storage._cdata not in self._held and storage._cdata not in self._foreign:
                self._foreign[storage._cdata] = StorageWeakRef(storage)
        out = func(*args, **(kwargs or {}))
        for storage in _storages(out):
            if storage._cdata not in self._foreign:
                self._held.setdefault(storage._cdata, (StorageWeakRef(storage), storage.nbytes()))
        self.peak = max(self.peak, self.live)
        return out


def _storages(values: Any) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]


def peak_bytes(work: Callable[[], Any], weights: int, device: str) -> int:
    """The most memory that `work` holds at once, with the models' `weights`: the allocator's on a GPU, else
    tensors counted."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return torch.cuda.max_memory_allocated(device)
    with LiveMemory() as memory:
        work()
    return memory.peak + weights


def size(module: nn.Module) -> int:
    """Bytes of a module's parameters and buffers."""
    return sum(t.numel() * t.element_size() for t in [*module.parameters(), *module.buffers()])
