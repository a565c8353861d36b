"""Stopping a transformer after one of its blocks, and going on from there later."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class _Reached(Exception):
    """Ends the forward pass at the hooked block; never leaves this module."""


def run_until(forward: Callable[[], Any], block: nn.Module) -> torch.Tensor:
    """The output of `block` during `forward()`, which ends there: what follows the block does not run.

    One forward hook, removed again. The tensor stays on its device and is not copied.
    """
    captured: list[torch.Tensor] = []

    def stop(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        captured.append(output)
        raise _Reached

    hook = block.register_forward_hook(stop)
    try:
        forward()
    except _Reached:
        pass
    finally:
        hook.remove()
    assert captured, "the forward pass never reached the block"
    return captured[0]


class _Captured(nn.Module):
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
    transformer.transformer_blocks = nn.ModuleList([_Captured(hidden), *blocks[block + 1 :]])
    try:
        yield
    finally:
        transformer.transformer_blocks = blocks
