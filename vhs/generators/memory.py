"""Micro-batches: how many candidates go through a network at once, and what happens when they do not fit."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from typing import TypeVar

import torch

from vhs.errors import RunError

T = TypeVar("T")
log = logging.getLogger(__name__)


class MicroBatches:
    """Runs a function over N candidates in slices of at most `size` (None: all at once).

    When memory runs out the slice is halved and tried again; the smaller size is kept, and a warning names it. It
    changes results by rounding only.
    """

    def __init__(self, size: int | None = None, stage: str = "candidates") -> None:
        self.size = size
        self.stage = stage

    def map(self, function: Callable[[slice], T], count: int, size: int | None = None) -> list[T]:
        """`function(slice)` for consecutive slices of `range(count)`, in order. Raises RunError if one does not fit."""
        results: list[T] = []
        done = 0
        while done < count:
            limit = min(bound for bound in (self.size, size, count) if bound is not None)
            piece = slice(done, min(done + limit, count))
            failure = None
            try:
                results.append(function(piece))
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                failure = str(error).splitlines()[0]
            if failure is None:
                done = piece.stop
            else:  # outside the except block: its traceback would keep the failed batch's tensors alive
                self._shrink(piece.stop - piece.start, failure)
        return results

    def _shrink(self, tried: int, failure: str) -> None:
        _release()
        if tried == 1:
            raise RunError(
                f"out of memory with a single candidate ({self.stage}: {failure}); what can change: dtype: bfloat16, "
                "offload: model, a smaller image_width and image_height, or a device with more memory"
            )
        self.size = tried // 2
        log.warning("out of memory with %d %s at once; going on with %d (micro_batch)", tried, self.stage, self.size)


def out_of_memory(error: BaseException) -> bool:
    """Whether torch ran out of memory, on any device."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in text or "can't allocate memory" in text


def _release() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
