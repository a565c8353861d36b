"""Micro-batches that shrink when memory runs out, and say so."""

from __future__ import annotations

import logging

import pytest
import torch

from vhs.batching import MicroBatches
from vhs.errors import RunError


def small_machine(limit: int, log: list[int]):
    """A function that needs memory for at most `limit` candidates at once."""

    def work(piece: slice) -> list[int]:
        size = piece.stop - piece.start
        log.append(size)
        if size > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
        return list(range(piece.start, piece.stop))

    return work


def through(batches: MicroBatches, work, count: int, most: int | None = None) -> list[list[int]]:
    """What `work` gives for every slice."""
    parts = []
    for piece in batches.over(count, most):
        with batches:
            parts.append(work(piece))
    return parts


def test_candidates_go_in_slices_in_order() -> None:
    log: list[int] = []
    assert through(MicroBatches(3), small_machine(9, log), 7) == [[0, 1, 2], [3, 4, 5], [6]]
    assert through(MicroBatches(), small_machine(9, log), 7, most=4) == [[0, 1, 2, 3], [4, 5, 6]]
    assert through(MicroBatches(2), small_machine(9, log), 4, most=3) == [[0, 1], [2, 3]]


def test_a_slice_that_does_not_fit_is_halved_and_the_size_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    log: list[int] = []
    batches = MicroBatches(stage="candidates")
    with caplog.at_level(logging.WARNING):
        parts = through(batches, small_machine(3, log), 10)
    assert [candidate for part in parts for candidate in part] == list(range(10))
    assert log == [10, 5, 2, 2, 2, 2, 2]
    assert [record.message for record in caplog.records] == [
        "out of memory with 10 candidates at once; going on with 5 (micro_batch)",
        "out of memory with 5 candidates at once; going on with 2 (micro_batch)",
    ]
    log.clear()
    through(batches, small_machine(3, log), 4)
    assert log == [2, 2]


def test_one_candidate_that_does_not_fit_says_what_to_change() -> None:
    with pytest.raises(RunError, match="out of memory with a single candidate.*dtype: bfloat16, offload: model"):
        through(MicroBatches(), small_machine(0, []), 4)


def test_other_errors_are_not_mistaken_for_memory() -> None:
    def broken(piece: slice) -> None:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        through(MicroBatches(), broken, 4)
