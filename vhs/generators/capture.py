"""Stopping a transformer after one of its blocks, and going on from there later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn


class _Reached(Exception):
    """Ends the forward pass at the hooked block; never leaves this module."""


class StoppedAfter:
    """A context in which a forward pass ends when the last of `blocks` has run; what follows it does not run, and
    neither does the rest of the context's body.

    Gives a list that then holds each block's own tensor on its device, not a copy. Forward hooks, removed again.
    """

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        self._blocks = blocks
        self._outputs: list[torch.Tensor] = []

    def __enter__(self) -> list[torch.Tensor]:
        self._hooks = [block.register_forward_hook(self._keep) for block in self._blocks]
        return self._outputs

    def _keep(self, module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        self._outputs.append(output)
        if len(self._outputs) == len(self._blocks):
            # Raising is the one way out of a forward pass that works for any transformer, whatever comes after.
            raise _Reached

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> bool:
        for hook in self._hooks:
            hook.remove()
        assert kind is not None, "the forward pass never reached the block"
        return kind is _Reached


class _HandsOn(nn.Module):
    """Stands in for the blocks that have run already and hands on what they made."""

    def __init__(self, hidden: torch.Tensor) -> None:
        super().__init__()
        self.hidden = hidden

    def forward(self, *inputs: Any, **named: Any) -> torch.Tensor:
        return self.hidden


class ResumedAfter:
    """A context in which the transformer's own forward goes on after `block` from `hidden` (N, tokens, width).

    Its list of blocks is exchanged for a stub and the blocks not yet run; embeddings and output layers are its own,
    so the result is the one of the whole forward, bit for bit at an equal batch size.
    """

    def __init__(self, transformer: nn.Module, block: int, hidden: torch.Tensor) -> None:
        self._transformer, self._blocks = transformer, transformer.transformer_blocks
        # The list is exchanged and the blocks stay as they are, with the hooks and adapters that somebody put on them.
        self._left = nn.ModuleList([_HandsOn(hidden), *self._blocks[block + 1 :]])

    def __enter__(self) -> None:
        self._transformer.transformer_blocks = self._left

    def __exit__(self, *error: Any) -> None:
        self._transformer.transformer_blocks = self._blocks
