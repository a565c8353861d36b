"""What a run of the published models holds in memory, counted on the meta device: no weight is read, no GPU is needed.

The whole path runs on tensors without storage, and every tensor's bytes are counted from its creation to its end. What
a GPU adds (its context, the allocator's rounding, libraries' workspaces) is not in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vhs.config.run import load_config
from vhs.measure.needs import resident

if TYPE_CHECKING:
    from vhs.measure.counted import CountedStage

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


def published_run(candidates: int, micro_batch: int | None, dtype: str) -> tuple[dict[str, int], list[CountedStage]]:
    """Bytes of each model's weights, and the stages of one prompt at 1024 px with the hidden-state verifier."""
    from vhs.measure.counted import count_prompt, weights
    from vhs.measure.random_models import random_generator, random_verifier

    config = load_config("configs/sana_sprint.yaml", {"micro_batch": micro_batch})
    generator = random_generator(config, "meta", dtype)
    verifier = random_verifier("hidden_7", "hidden_7_qwen2.5-0.5b", None, generator.info, micro_batch)
    return weights(generator, verifier), count_prompt(generator, verifier, candidates)


def report(candidates: int, micro_batch: int | None, dtype: str) -> dict[str, Any]:
    """GiB per model, and per stage: tensors, and the sum with the weights for each `offload`; `peak` is the largest."""
    weights, stages = published_run(candidates, micro_batch, dtype)

    def in_gib(count: int) -> float:
        return round(count / GIB, 2)

    rows = {
        stage.name: {
            "tensors": in_gib(stage.tensors),
            **{
                offload: in_gib(resident(weights, stage.needs, offload) + stage.tensors)
                for offload in ("none", "model")
            },
        }
        for stage in stages
    }
    peak = {offload: max(row[offload] for row in rows.values()) for offload in ("none", "model")}
    return {"weights": {name: in_gib(count) for name, count in weights.items()}, "stages": rows, "peak": peak}
