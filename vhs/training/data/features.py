"""How features are stored: as they are in 16 or 32 bits, or in 8 bits with a scale per sample and channel.

    float8    v = x / s in float8_e4m3fn, s = max |x| / 448      int8    v = round(x / s), s = max |x| / 127

with the maximum over a channel's tokens (or pixels). What is read is v s in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

import torch

from vhs.errors import ConfigError

STORED = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
    "float8": torch.float8_e4m3fn,
    "int8": torch.int8,
}
LARGEST = {"float8": 448.0, "int8": 127.0}
SCALE = ".scale"


def read_dtype(dtype: str) -> torch.dtype:
    """What features stored as `dtype` are read as."""
    return torch.float32 if dtype in LARGEST else STORED[dtype]


def bytes_of(shape: tuple[int, ...], dtype: str) -> int:
    """Of one sample's feature (tokens, width) or (c, h, w), its scales included."""
    scales = prod(_scale_shape(shape)) * 4 if dtype in LARGEST else 0
    return prod(shape) * STORED[dtype].itemsize + scales


def stored(name: str, values: torch.Tensor, dtype: str) -> dict[str, torch.Tensor]:
    """The tensors that a shard holds of a feature (n, ...): its values, and their scales where there are some."""
    if dtype not in LARGEST:
        return {name: values.to(STORED[dtype])}
    values = values.float()
    scale = values.abs().amax(dim=_pooled(values.ndim - 1), keepdim=True) / LARGEST[dtype]
    scale = scale.clamp_min(torch.finfo(torch.float32).tiny)  # a channel of zeros
    scaled = values / scale
    return {name: (scaled.round() if dtype == "int8" else scaled).to(STORED[dtype]), name + SCALE: scale}


def read(shard: Mapping[str, torch.Tensor], name: str, row: int) -> torch.Tensor:
    """One sample's feature from a shard's tensors."""
    values = shard[name][row]
    return values if name + SCALE not in shard else values.float() * shard[name + SCALE][row]


def finite_rows(values: torch.Tensor) -> torch.Tensor:
    """Which of the samples (n, ...) have no NaN and no infinity, (n,) bool. A sum is not finite as soon as one of its
    terms is not: one pass over the values, and no tensor of as many booleans."""
    flat = values.flatten(1)
    if flat.dtype == torch.float16:  # whose sum leaves its range; summed in float32 it takes many times as long
        return torch.isfinite(flat.amax(dim=1)) & torch.isfinite(flat.amin(dim=1))
    return torch.isfinite(flat.sum(dim=1))


def require_finite(values: torch.Tensor, feature: str, name: Callable[[int], str], remedy: str) -> None:
    """Raises ConfigError, naming the first sample (n, ...) with a NaN or an infinity by `name(row)`."""
    finite = finite_rows(values)
    if not finite.all():
        raise ConfigError(f"{name(int((~finite).nonzero()[0]))}: {feature} is NaN or infinite; {remedy}")


def _pooled(dimensions: int) -> tuple[int, ...]:
    """The axes of (n, ...) that share a scale: tokens, or height and width."""
    return (1,) if dimensions == 2 else (2, 3)


def _scale_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (1, shape[1]) if len(shape) == 2 else (shape[0], 1, 1)
