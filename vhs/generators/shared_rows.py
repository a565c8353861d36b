"""What every candidate of a prompt shares is computed for one of them.

SANA's caption projection and the keys and values of its cross-attention depend on the text alone.
"""

from __future__ import annotations

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
            module.forward = _once(module.forward)


def _once(forward: Any) -> Any:
    def shared(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if len(x) == 1 or x.stride(0) != 0:
            return forward(x, *args, **kwargs)
        return forward(x[:1], *args, **kwargs).expand(len(x), *[-1] * (x.ndim - 1))

    return shared
