"""What every candidate of a prompt shares is computed for one of them.

SANA's caption projection and the keys and values of its cross-attention depend on the text alone.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import nn


def share_text(transformer: nn.Module) -> None:
    """Has the modules of a `SanaTransformer2DModel` that see nothing but the text compute one row of it, where the rows
    are one row repeated (`expand`); what they return is repeated the same way."""
    modules = [transformer.caption_projection, transformer.caption_norm]
    for block in transformer.transformer_blocks:
        modules += [block.attn2.to_k, block.attn2.to_v, block.attn2.norm_k]
    for module in modules:
        if module is not None:
            module.__class__ = _sharing(type(module))


@cache
def _sharing(kind: type[nn.Module]) -> type[nn.Module]:
    """The same module for one row. A class, not a function for each module: code that is compiled for one block then
    serves them all."""

    def forward(self: nn.Module, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if len(x) == 1 or x.stride(0) != 0:
            return kind.forward(self, x, *args, **kwargs)
        return kind.forward(self, x[:1], *args, **kwargs).expand(len(x), *[-1] * (x.ndim - 1))

    return type(f"{kind.__name__}OnOneRow", (kind,), {"forward": forward})
