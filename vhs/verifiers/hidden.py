"""Verifiers on hidden states: the output of one transformer block, normalised by stored statistics."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch

from vhs.checkpoints.boundary import loading
from vhs.checkpoints.hub import DOWNLOAD
from vhs.errors import CheckpointError
from vhs.verifiers.base import Reads

EPSILON = 1e-6


def normalize(hidden: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
    """(x - mean) / sqrt(variance + 1e-6) for x (N, tokens, width), in the dtype that torch promotes to.

    `mean` and `variance` are global (1,), per token (tokens,) or per channel (1, width).
    """
    return (hidden - mean.unsqueeze(1)) / torch.sqrt(variance.unsqueeze(1) + EPSILON)


@dataclass(frozen=True)
class Statistics:
    """Mean and variance of a block's output, of one shape: (1,), (tokens,) or (1, width)."""

    mean: torch.Tensor
    variance: torch.Tensor
    source: str

    def check(self, tokens: int | None, width: int | None) -> None:
        """Raises CheckpointError where the shape does not fit `tokens` tokens of `width` channels (None: unknown)."""
        shape = tuple(self.mean.shape)
        if len(shape) == 2 and width is not None and shape[1] != width:
            raise CheckpointError(f"{self.source}: statistics of {shape[1]} channels; the hidden states have {width}")
        if len(shape) == 1 and shape[0] != 1 and tokens is not None and shape[0] != tokens:
            raise CheckpointError(f"{self.source}: statistics of {shape[0]} tokens; the hidden states have {tokens}")

    def apply(self, hidden: torch.Tensor) -> torch.Tensor:
        """`normalize` on hidden states (N, tokens, width), on their device. Raises CheckpointError where they would
        broadcast against statistics of another shape."""
        self.check(hidden.shape[1], hidden.shape[2])
        return normalize(hidden, self.mean.to(hidden.device), self.variance.to(hidden.device))


def load_statistics(mean_path: str | Path, variance_path: str | Path, block: int | None = None) -> Statistics:
    """Two files written by `torch.save` of one tensor each.

    Raises:
        CheckpointError: a file is missing or no plain tensor, its name says another block than `block`, the shapes
            are not supported or differ, or a value is not finite or a variance negative.
    """
    with loading("file of statistics", mean_path):
        return _checked(mean_path, variance_path, block)


def _checked(mean_path: str | Path, variance_path: str | Path, block: int | None) -> Statistics:
    mean, variance = (_load_tensor(path, block) for path in (mean_path, variance_path))
    if mean.shape != variance.shape:
        raise CheckpointError(
            f"{variance_path}: shape {tuple(variance.shape)} differs from the mean's {tuple(mean.shape)} ({mean_path})"
        )
    if not (mean.ndim == 1 or (mean.ndim == 2 and mean.shape[0] == 1)) or not mean.numel():
        raise CheckpointError(f"{mean_path}: shape {tuple(mean.shape)}; statistics are (1,), (tokens,) or (1, width)")
    if not (mean.isfinite().all() and variance.isfinite().all() and (variance >= 0).all()):
        what = "statistics are not finite, or a variance is negative"
        raise CheckpointError(f"{variance_path}: {what}; compute them again")
    return Statistics(mean, variance, str(mean_path))


def _load_tensor(path: str | Path, block: int | None) -> torch.Tensor:
    named = re.search(r"block_(\d+)(?!\d)", Path(path).name)
    if block is not None and named and int(named[1]) != block:
        raise CheckpointError(f"{path}: statistics of block {named[1]}; the verifier reads block {block}")
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: no such statistics file; the published ones come with: {DOWNLOAD}")
    with loading("file of one tensor", path, "download it again"):
        tensor = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
        raise CheckpointError(f"{path}: holds {type(tensor).__name__}; one floating-point tensor is expected")
    return tensor


@dataclass
class HiddenReader:
    """Hidden states (N, tokens, width) of `block`; normalised where there are statistics."""

    width: int
    block: int | None
    statistics: Statistics | None = None
    reads: Reads = "hidden"

    def __post_init__(self) -> None:
        if self.statistics is not None:
            self.statistics.check(None, self.width)

    def check(self, features: torch.Tensor) -> int:
        if not isinstance(features, torch.Tensor) or features.ndim != 3 or features.shape[2] != self.width:
            got = tuple(features.shape) if isinstance(features, torch.Tensor) else type(features).__name__
            raise CheckpointError(f"verifier: reads hidden states (N, tokens, {self.width}); got {got}")
        if self.statistics is not None:
            self.statistics.check(features.shape[1], self.width)
        return len(features)

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        return features if self.statistics is None else self.statistics.apply(features)
