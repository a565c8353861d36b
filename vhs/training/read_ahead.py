"""Batches for the training loop, each read in a thread while the one before it is used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from vhs.training.dataset import Batch, TrainingData


class _Foreseen(NamedTuple):
    data: TrainingData
    part: list[int]
    batch: Future[Batch]


class ReadAhead:
    """One reader, which keeps one batch ahead of whoever asks for it."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1)
        self.ahead: _Foreseen | None = None

    def over(
        self, data: TrainingData, parts: Sequence[list[int]], following: Sequence[list[int]] = ()
    ) -> Iterator[tuple[list[int], Batch]]:
        """Batches of `parts`, the next one read while the current one is used, after the last one that of
        `following`, which the next call begins with."""
        for part, after in zip(parts, [*parts[1:], *(following or [None])], strict=True):
            batch = self._read(data, part)
            self.ahead = None if after is None else _Foreseen(data, after, self._thread.submit(data.batch, after))
            yield part, batch

    def _read(self, data: TrainingData, part: list[int]) -> Batch:
        ahead, self.ahead = self.ahead, None
        if ahead is not None and ahead.data is data and ahead.part == part:
            return ahead.batch.result()
        return self._thread.submit(data.batch, part).result()
