"""Stopping a transformer after one of its blocks, and going on from there later."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class _Reached(Exception):
    """Ends the forward pass at the hooked block; never leaves this module."""


class Captured:
    """What `stopped_after` caught: `output`, the block's own tensor on its device, not a copy."""

    output: torch.Tensor


@contextmanager
def stopped_after(block: nn.Module) -> Iterator[Captured]:
    """A forward pass inside this context ends when `block` has run; what follows the block does not run.

    One forward hook, removed again. The rest of the context's body is skipped.
    """
    captured = Captured()

    def stop(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        captured.output = output
        # Raising is the one way out of a forward pass that works for any transformer, whatever comes after the block.
        raise _Reached

    hook = block.register_forward_hook(stop)
    try:
        yield captured
    except _Reached:
        pass
    finally:
        hook.remove()
    assert hasattr(captured, "output"), "the forward pass never reached the block"


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
