"""Connectors: from the tokens of a picture to the LLM's embeddings. Names and layouts are the release's.

    linear                                   one linear layer
    mlp2x_gelu, mlp3x_gelu, ...              linear layers with exact (erf) GELU between them
    mlp2x_gelu_attn_layers_2_heads_4         the MLP, then transformer layers (before it where config.json has `swap`)
    conv_mlp2x_gelu                          halves the grid's sides first
    vit_p_4_d_512_h_4_l_6_mlp2x_gelu         a small ViT on the latent grid, then the MLP
    identity                                 nothing
    norm_linear, norm_mlp2x_gelu, ...        a LayerNorm on the incoming tokens first

A checkpoint's tensors are the `state_dict` of these modules under `model.mm_projector.`.
"""

from __future__ import annotations

import math
import re

import torch
from torch import nn
from torch.nn import functional as F

from vhs.errors import CheckpointError

SUPPORTED = (
    "linear, identity, mlp<N>x_gelu, mlp<N>x_gelu_attn_layers_<L>_heads_<H>, conv_<mlp...>, "
    "vit_p_<P>_d_<D>_h_<H>_l_<L>_mlp<N>x_gelu, and norm_<any but vit>"
)
DEEPEST, WIDEST, LARGEST_PATCH = 64, 65_536, 32
"""Layers, channels and latent pixels that a connector has at most: more is a damaged name."""
_MLP = re.compile(r"(?P<conv>conv_)?mlp(?P<depth>[1-9]\d*)x_gelu(_attn_layers_(?P<layers>\d+)_heads_(?P<heads>\d+))?")
_VIT = re.compile(
    r"vit_p_(?P<patch>\d+)_d_(?P<width>\d+)_h_(?P<heads>\d+)_l_(?P<layers>\d+)_mlp(?P<depth>[1-9]\d*)x_gelu"
)


def build_connector(kind: str, in_width: int, out_width: int, swap: bool = False) -> nn.Module:
    """A connector of type `kind` with fresh weights, float32, on torch's current default device.

    It maps tokens (N, tokens, in_width) to (N, tokens', out_width); the ViT takes a grid (N, in_width, h, w) instead
    (see `reads_grid`).

    Raises:
        CheckpointError: a type that is not supported, or widths that do not fit it.
    """
    bare = kind.removeprefix("norm_")
    _check_sizes(bare, max(in_width, out_width))
    module = _build_bare(bare, in_width, out_width, swap)
    if module is None or (bare != kind and reads_grid(bare)):
        raise CheckpointError(f"mm_projector_type: {kind!r} is not supported; supported: {SUPPORTED}")
    return module if bare == kind else nn.Sequential(nn.LayerNorm(in_width), module)


def _check_sizes(kind: str, widest: int) -> None:
    match = _MLP.fullmatch(kind) or _VIT.fullmatch(kind)
    sizes = {name: value for name, value in (match.groupdict() if match else {}).items() if name not in ("conv",)}
    limits = {"depth": DEEPEST, "layers": DEEPEST, "patch": LARGEST_PATCH}
    for name, value in {**sizes, "width": max(widest, int(sizes.get("width") or 0))}.items():
        limit = limits.get(name, WIDEST)
        if value is not None and (len(str(value)) > 9 or not 0 < int(value) <= limit):
            raise CheckpointError(f"mm_projector_type: {kind[:60]!r}: {name} is not from 1 to {limit}; it is damaged")


def reads_grid(kind: str) -> bool:
    """The connector takes latents (N, c, h, w) rather than flattened tokens."""
    return kind.startswith("vit_")


def picture_tokens(kind: str, tokens: int) -> int:
    """How many tokens the LLM gets of a picture's `tokens`: a quarter of them where the connector halves the grid."""
    return (math.isqrt(tokens) // 2) ** 2 if kind.removeprefix("norm_").startswith("conv_") else tokens


def _build_bare(kind: str, in_width: int, out_width: int, swap: bool) -> nn.Module | None:
    if kind == "linear":
        return nn.Linear(in_width, out_width)
    if kind == "identity":
        if in_width != out_width:
            raise CheckpointError(f"mm_projector_type: identity needs equal widths, got {in_width} and {out_width}")
        return nn.Identity()
    if match := _MLP.fullmatch(kind):
        return _mlp_connector(match, in_width, out_width, swap)
    if match := _VIT.fullmatch(kind):
        patch, width, heads, layers, depth = (int(match[k]) for k in ("patch", "width", "heads", "layers", "depth"))
        vit = GridTransformer(in_width, patch, width, _divides(heads, width, kind), layers)
        return nn.Sequential(vit, nn.Sequential(*_mlp(depth, width, out_width)))
    return None


def _mlp_connector(match: re.Match, in_width: int, out_width: int, swap: bool) -> nn.Module:
    modules = [HalveGrid(in_width)] if match["conv"] else []
    modules += _mlp(int(match["depth"]), in_width, out_width)
    if match["layers"]:
        width = in_width if swap else out_width
        heads = _divides(int(match["heads"]), width, match[0])
        layer = nn.TransformerEncoderLayer(
            width, heads, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        encoder = nn.TransformerEncoder(layer, int(match["layers"]), enable_nested_tensor=False)
        modules = [encoder, *modules] if swap else [*modules, encoder]
    return nn.Sequential(*modules)


def _mlp(depth: int, in_width: int, out_width: int) -> list[nn.Module]:
    modules: list[nn.Module] = [nn.Linear(in_width, out_width)]
    for _ in range(depth - 1):
        modules += [nn.GELU(), nn.Linear(out_width, out_width)]
    return modules


def _divides(heads: int, width: int, kind: str) -> int:
    if heads < 1 or width % heads:
        raise CheckpointError(f"mm_projector_type: {kind}: {heads} heads do not divide the width {width}")
    return heads


class HalveGrid(nn.Module):
    """A 1x1 convolution, then bilinear interpolation to half the height and width: a quarter of the tokens.

    Tokens (N, side * side, width) are laid out as (width, side, side) without a transposition, as the release does:
    its weights are trained on that layout.
    """

    def __init__(self, width: int):
        super().__init__()
        self.proj = nn.Conv2d(width, width, kernel_size=1, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        count, length, width = tokens.shape
        side = math.isqrt(length)
        if side * side != length:
            raise CheckpointError(f"mm_projector_type: conv_ needs a square grid of tokens, got {length}")
        grid = self.proj(tokens.reshape(count, width, side, side))
        grid = F.interpolate(grid, size=(side // 2, side // 2), mode="bilinear", align_corners=False)
        return grid.flatten(2).transpose(1, 2)


class PatchEmbedding(nn.Module):
    """Patches of a grid (N, c, h, w) as tokens on a grid (N, width, h / patch, w / patch)."""

    def __init__(self, channels: int, patch: int, width: int):
        super().__init__()
        self.proj = nn.Conv2d(channels, width, kernel_size=patch, stride=patch)

    def forward(self, grid: torch.Tensor) -> torch.Tensor:
        return self.proj(grid)


class GridTransformer(nn.Module):
    """A ViT over a latent grid (N, channels, h, w): patches, a class token, learned positions of a 32 x 32 grid
    (interpolated for another), post-norm layers. Returns the patch tokens (N, patches, width)."""

    grid_side = 32

    def __init__(self, channels: int, patch: int, width: int, heads: int, layers: int):
        super().__init__()
        self.side = self.grid_side // patch
        self.patch_embed = PatchEmbedding(channels, patch, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.randn(1, self.side**2 + 1, width) * 0.02)
        self.pos_drop = nn.Dropout(0.1)
        layer = nn.TransformerEncoderLayer(width, heads, dim_feedforward=4 * width, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)

    def forward(self, grid: torch.Tensor) -> torch.Tensor:
        patches = self.patch_embed(grid)
        positions = self._positions(patches.shape[-2:])
        tokens = torch.cat([self.cls_token.expand(len(grid), -1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
        return self.norm(self.encoder(self.pos_drop(tokens + positions)))[:, 1:]

    def _positions(self, size: torch.Size) -> torch.Tensor:
        if tuple(size) == (self.side, self.side):
            return self.pos_embed
        patch = self.pos_embed[:, 1:].unflatten(1, (self.side, self.side)).permute(0, 3, 1, 2)
        patch = F.interpolate(patch, size=tuple(size), mode="bilinear", align_corners=False)
        return torch.cat([self.pos_embed[:, :1], patch.flatten(2).transpose(1, 2)], dim=1)
