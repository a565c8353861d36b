"""Stopping a transformer after one of its blocks, and going on from there later."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch import nn


class _Reached(Exception):
    """Ends the forward pass at the hooked block; never leaves this module."""


@contextmanager
def stopped_after(blocks: Sequence[nn.Module]) -> Iterator[list[torch.Tensor]]:
    """A forward pass inside this context ends when the last of `blocks` has run; what follows it does not run.

    Yields a list that then holds each block's own tensor on its device, not a copy. Forward hooks, removed again. The
    rest of the context's body is skipped.
    """
    outputs: list[torch.Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        outputs.append(output)
        if len(outputs) == len(blocks):
            # Raising is the one way out of a forward pass that works for any transformer, whatever comes after.
            raise _Reached

    with ExitStack() as hooks:
        for block in blocks:
            hooks.callback(block.register_forward_hook(keep).remove)
        with suppress(_Reached):
            yield outputs
    assert len(outputs) == len(blocks), "the forward pass never reached the block"


class _HandsOn(nn.Module):
    """Stands in for the blocks that have run already and hands on what they made."""

    def __init__(self, hidden: torch.Tensor) -> None:
        super().__init__()
        self.hidden = hidden

    def forward(self, *inputs: Any, **named: Any) -> torch.Tensor:
        return self.hidden


@contextmanager
def resumed(transformer: nn.Module, block: int, hidden: torch.Tensor) -> Iterator[None]:
    """Within this context the transformer's own forward goes on after `block` from `hidden` (N, tokens, width).

    Its list of blocks is exchanged for a stub and the blocks not yet run; embeddings and output layers are its own,
    so the result is the one of the whole forward, bit for bit at an equal batch size.
    """
    blocks = transformer.transformer_blocks
    # The list is exchanged and the blocks stay as they are, with the hooks and adapters that somebody put on them.
    transformer.transformer_blocks = nn.ModuleList([_HandsOn(hidden), *blocks[block + 1 :]])
    try:
        yield
    finally:
        transformer.transformer_blocks = blocks
