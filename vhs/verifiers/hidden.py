"""Verifiers on hidden states: the output of a transformer block, or of several side by side, normalised by stored
statistics of each."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
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


def load_all_statistics(files: Sequence[str | Path], blocks: Sequence[int]) -> tuple[Statistics, ...]:
    """The statistics of each block from `files`, mean and variance in turn. Raises as `load_statistics`."""
    pairs = zip(files[::2], files[1::2], blocks or (None,), strict=True)
    return tuple(load_statistics(mean, variance, block) for mean, variance, block in pairs)


def check_statistics(statistics: Sequence[Statistics], tokens: int | None, width: int) -> None:
    """Raises CheckpointError where one does not fit its part of hidden states that are `width` wide together."""
    for one in statistics:
        one.check(tokens, width // len(statistics))


def digest(statistics: Sequence[Statistics]) -> str | None:
    """SHA-256 of the values, by which a checkpoint knows those it was trained with; None for none."""
    if not statistics:
        return None
    values = [tensor.float().contiguous() for one in statistics for tensor in (one.mean, one.variance)]
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in values)).hexdigest()


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
    """Hidden states (N, tokens, width) of `blocks`, side by side in the channels; each normalised where there are
    statistics, one for each block."""

    width: int
    blocks: tuple[int, ...]
    statistics: tuple[Statistics, ...] = ()
    reads: Reads = "hidden"

    def __post_init__(self) -> None:
        self._check(None)

    @property
    def block(self) -> int | None:
        """The last block, where the generator stops."""
        return self.blocks[-1] if self.blocks else None

    def _check(self, tokens: int | None) -> None:
        check_statistics(self.statistics, tokens, self.width)

    def check(self, features: torch.Tensor) -> int:
        if not isinstance(features, torch.Tensor) or features.ndim != 3 or features.shape[2] != self.width:
            got = tuple(features.shape) if isinstance(features, torch.Tensor) else type(features).__name__
            raise CheckpointError(f"verifier: reads hidden states (N, tokens, {self.width}); got {got}")
        self._check(features.shape[1])
        return len(features)

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        if not self.statistics:
            return features
        parts = features.chunk(len(self.statistics), dim=-1)
        normalised = [own.apply(part) for own, part in zip(self.statistics, parts, strict=True)]
        return normalised[0] if len(normalised) == 1 else torch.cat(normalised, dim=-1)
