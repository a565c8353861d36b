"""Stopping after a block and going on from it, on a transformer of four additions."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vhs.generators.capture import ResumedAfter, StoppedAfter


class Add(nn.Module):
    """Adds a number, and counts how often."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number, self.calls = number, 0

    def forward(self, hidden: torch.Tensor, text: str, scale: int = 1) -> torch.Tensor:
        assert text == "a text"
        self.calls += 1
        return hidden + scale * self.number


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.transformer_blocks = nn.ModuleList(Add(number) for number in (1, 20, 300, 4000))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.transformer_blocks:
            x = block(x, "a text", scale=1)
        return 2 * x

    def calls(self) -> list[int]:
        return [block.calls for block in self.transformer_blocks]


def test_a_pass_ends_with_the_last_block_and_leaves_no_hook() -> None:
    transformer, made = Transformer(), []
    for block in transformer.transformer_blocks:
        block.register_forward_hook(lambda module, inputs, output: made.append(output))
    with StoppedAfter([transformer.transformer_blocks[index] for index in (0, 2)]) as outputs:
        transformer(torch.zeros(2))
        pytest.fail("the context went on")
    assert outputs[0] is made[0] and outputs[1] is made[2] and len(outputs) == 2
    assert [output.tolist() for output in outputs] == [[1, 1], [321, 321]]
    assert transformer.calls() == [1, 1, 1, 0]
    assert transformer(torch.zeros(1)).item() == 2 * 4321 and len(outputs) == 2


def test_a_pass_that_never_comes_to_the_block_is_noticed() -> None:
    block = Add(1)
    with pytest.raises(AssertionError, match="^the forward pass never reached the block$"), StoppedAfter([block]):
        Transformer()(torch.zeros(1))
    assert block(torch.zeros(1), "a text").item() == 1


def test_another_error_leaves_the_context_as_it_is_and_no_hook() -> None:
    transformer = Transformer()
    with pytest.raises(ZeroDivisionError), StoppedAfter(transformer.transformer_blocks[3:]):
        1 / 0
    assert transformer(torch.zeros(1)).item() == 2 * 4321


@pytest.mark.parametrize(("block", "expected"), [(0, 5320), (1, 5300), (2, 5000), (3, 1000)])
def test_the_blocks_after_the_one_go_on_from_what_they_are_given(block: int, expected: int) -> None:
    transformer = Transformer()
    blocks = transformer.transformer_blocks
    with ResumedAfter(transformer, block, torch.tensor([1000.0])):
        assert transformer(torch.zeros(1)).item() == 2 * expected
    assert transformer.transformer_blocks is blocks and transformer.calls() == [int(i > block) for i in range(4)]
    assert transformer(torch.zeros(1)).item() == 2 * 4321


def test_the_blocks_are_given_back_after_an_error() -> None:
    transformer = Transformer()
    blocks = transformer.transformer_blocks
    with pytest.raises(ZeroDivisionError), ResumedAfter(transformer, 2, torch.zeros(1)):
        1 / 0
    assert transformer.transformer_blocks is blocks
