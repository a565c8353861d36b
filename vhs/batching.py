"""Micro-batches: how many candidates go through a network at once, and what happens when they do not fit."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from types import TracebackType

import torch

from vhs.errors import RunError, first_line

log = logging.getLogger(__name__)


class MicroBatches:
    """Slices of N candidates, at most `size` of them each (None: all at once).

        for piece in batches.over(len(noise)):
            with batches:
                parts.append(network(noise[piece]))

    When memory runs out inside the `with`, the slice comes again at half its size; the smaller size is kept, and a
    warning names it. It changes results by rounding only.
    """

    def __init__(self, size: int | None = None, stage: str = "candidates") -> None:
        self.size = size
        self.stage = stage
        self._failure: str | None = None

    def over(self, count: int, most: int | None = None) -> Iterator[slice]:
        """Consecutive slices of `range(count)`, at most `most` candidates each. Raises RunError if a single one does
        not fit."""
        done = 0
        while done < count:
            limit = min(bound for bound in (self.size, most, count) if bound is not None)
            piece = slice(done, min(done + limit, count))
            self._failure = None
            yield piece
            if self._failure is None:
                done = piece.stop
            else:
                self._shrink(piece.stop - piece.start, self._failure)

    def __enter__(self) -> None:
        self._failure = None

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        """Swallows running out of memory. The traceback, which keeps the failed batch's tensors alive, ends here: they
        are free before `over` goes on."""
        if isinstance(error, RuntimeError) and out_of_memory(error):
            self._failure = first_line(error)
        return self._failure is not None

    def _shrink(self, tried: int, failure: str) -> None:
        _release()
        if tried == 1:
            raise RunError(
                f"out of memory with a single candidate ({self.stage}: {failure}); what can change: dtype: bfloat16, "
                "offload: model, a smaller image_width and image_height, or a device with more memory"
            )
        self.size = tried // 2
        log.warning("out of memory with %d %s at once; going on with %d (micro_batch)", tried, self.stage, self.size)


class MicroBatched:
    """A generator's two loops over candidates: through the network, and through the decoder."""

    mixes_prompts = False
    """It takes candidates of several prompts in one pass."""

    def __init__(self, micro_batch: int | None) -> None:
        self._candidates = MicroBatches(micro_batch, "candidates")
        self._pictures = MicroBatches(micro_batch, "pictures to decode")

    @property
    def micro_batch(self) -> int | None:
        """Candidates that go through the network at once; None: all."""
        return self._candidates.size

    @micro_batch.setter
    def micro_batch(self, size: int | None) -> None:
        self._candidates.size = self._pictures.size = size


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
