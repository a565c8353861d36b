"""SANA's transformer as two functions over its own blocks, up to a block and from there on, which compilers and CUDA
graphs take whole: the early exit by a hook that raises stops them.

In eager mode both equal the transformer's own forward, stopped or resumed by a hook, to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from vhs.compiled import Graphed, compile_layers

if TYPE_CHECKING:
    import torch
    from torch import nn


class Call(NamedTuple):
    """One forward's arguments: input (N, C, h, w), text (N, T, D) and its mask (N, T), guidance and time (N,)."""

    seen: torch.Tensor
    text: torch.Tensor
    mask: torch.Tensor
    guidance: torch.Tensor
    time: torch.Tensor


class Halves:
    """The two functions of one transformer, graphs of compiled blocks where `compiled`."""

    def __init__(self, transformer: nn.Module, compiled: bool = True) -> None:
        self.transformer = transformer
        make: Callable[..., Any] = Graphed if compiled else lambda function: function
        if compiled:
            compile_layers(transformer.transformer_blocks)
        self._before = cache(lambda blocks: make(lambda *call: before(transformer, Call(*call), blocks)))
        self._after = cache(lambda block: make(lambda hidden, *call: after(transformer, hidden, Call(*call), block)))

    def before(self, call: Call, blocks: Sequence[int]) -> list[torch.Tensor]:
        """The outputs (N, tokens, width) of `blocks`, ascending; the pass ends at the last."""
        return self._before(tuple(blocks))(*call)

    def after(self, hidden: torch.Tensor, call: Call, block: int) -> torch.Tensor:
        """The transformer's output (N, C, h, w), from the output of `block`."""
        return self._after(block)(hidden, *call)


def before(transformer: nn.Module, call: Call, blocks: Sequence[int]) -> list[torch.Tensor]:
    """`Halves.before`, uncompiled."""
    _, conditions = _conditioned(transformer, call)
    hidden = transformer.patch_embed(call.seen)
    outputs = []
    for number, one in enumerate(transformer.transformer_blocks[: blocks[-1] + 1]):
        hidden = one(hidden, *conditions)
        if number in blocks:
            outputs.append(hidden)
    return outputs


def after(transformer: nn.Module, hidden: torch.Tensor, call: Call, block: int) -> torch.Tensor:
    """`Halves.after`, uncompiled."""
    embedded, conditions = _conditioned(transformer, call)
    for one in transformer.transformer_blocks[block + 1 :]:
        hidden = one(hidden, *conditions)
    hidden = transformer.norm_out(hidden, embedded, transformer.scale_shift_table)
    patches = transformer.proj_out(hidden)
    height, width, side = *conditions[-2:], transformer.config.patch_size
    patches = patches.reshape(len(hidden), height, width, side, side, -1).permute(0, 5, 1, 3, 2, 4)
    return patches.reshape(len(hidden), -1, height * side, width * side)


def _conditioned(transformer: nn.Module, call: Call) -> tuple[torch.Tensor, tuple[Any, ...]]:
    """(the embedded time, what every block takes beside its hidden state)."""
    bias = ((1 - call.mask.to(call.seen.dtype)) * -10000.0).unsqueeze(1)
    modulation, embedded = transformer.time_embed(call.time, guidance=call.guidance, hidden_dtype=call.seen.dtype)
    text = transformer.caption_projection(call.text)
    text = transformer.caption_norm(text.view(len(call.seen), -1, text.shape[-1]))
    height, width = (side // transformer.config.patch_size for side in call.seen.shape[-2:])
    return embedded, (None, text, bias, modulation, height, width)
