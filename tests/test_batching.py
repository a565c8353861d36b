"""Micro-batches that shrink when memory runs out, and say so."""

from __future__ import annotations

import logging

import pytest
import torch

from vhs.errors import RunError
from vhs.generators.memory import MicroBatches
from vhs.generators.sana_sprint import SanaSprint


def small_machine(limit: int, log: list[int]):
    """A function that needs memory for at most `limit` candidates at once."""

    def work(piece: slice) -> list[int]:
        size = piece.stop - piece.start
        log.append(size)
        if size > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
        return list(range(piece.start, piece.stop))

    return work


def test_candidates_go_in_slices_in_order() -> None:
    log: list[int] = []
    assert MicroBatches(3).map(small_machine(9, log), 7) == [[0, 1, 2], [3, 4, 5], [6]]
    assert MicroBatches().map(small_machine(9, log), 7, size=4) == [[0, 1, 2, 3], [4, 5, 6]]
    assert MicroBatches(2).map(small_machine(9, log), 4, size=3) == [[0, 1], [2, 3]]


def test_a_slice_that_does_not_fit_is_halved_and_the_size_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    log: list[int] = []
    batches = MicroBatches(stage="candidates")
    with caplog.at_level(logging.WARNING):
        parts = batches.map(small_machine(3, log), 10)
    assert [candidate for part in parts for candidate in part] == list(range(10))
    assert log == [10, 5, 2, 2, 2, 2, 2]
    assert [record.message for record in caplog.records] == [
        "out of memory with 10 candidates at once; going on with 5 (micro_batch)",
        "out of memory with 5 candidates at once; going on with 2 (micro_batch)",
    ]
    log.clear()
    batches.map(small_machine(3, log), 4)
    assert log == [2, 2]


def test_one_candidate_that_does_not_fit_says_what_to_change() -> None:
    with pytest.raises(RunError, match="out of memory with a single candidate.*dtype: bfloat16, offload: model"):
        MicroBatches().map(small_machine(0, []), 4)


def test_other_errors_are_not_mistaken_for_memory() -> None:
    def broken(piece: slice) -> None:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        MicroBatches().map(broken, 4)


def test_a_generator_that_runs_out_of_memory_gives_the_same_results(
    golden_folder, golden_sprint: SanaSprint, caplog: pytest.LogCaptureFixture
) -> None:
    sprint = SanaSprint.from_pretrained(golden_folder, image_width=64, image_height=64)
    [text], noise = sprint.encode(["a dog"]), sprint.noise(range(5))

    def shortage(module: torch.nn.Module, inputs: tuple) -> None:
        if len(inputs[0]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    sprint.transformer.register_forward_pre_hook(shortage)
    latents = sprint.finish(sprint.prefix(noise, text))
    torch.testing.assert_close(latents, golden_sprint.generate(noise, text), atol=1e-5, rtol=0)
    assert "out of memory with 5 candidates at once; going on with 2 (micro_batch)" in caplog.text
