"""Mean and variance of features over a stream of samples: one pass, float64, mergeable across shards and machines.

A verifier sees x' = (x - mean) / sqrt(variance + 1e-6). Statistics are kept per channel (the release's (1, C)), per
token (N,) or as one pair of numbers (1,): the three shapes that verifiers accept.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from vhs.config.keys import StatisticsKeys
from vhs.errors import ConfigError
from vhs.files import write_bytes
from vhs.paths import expanded, find
from vhs.verifiers.feature_names import blocks_in, statistics_files

Per = Literal["channel", "token", "all"]
_KEPT = {"channel": 2, "token": 1, "all": None}


@dataclass
class Moments:
    """How many values each entry has seen, their mean and their summed squared deviation from it (float64).

    `update` takes batches (n, tokens, channels); two `Moments` of disjoint samples merge into those of all
    (Chan et al., 1979), so shards can be read by different processes.
    """

    per: Per = "channel"
    count: int = 0
    mean: torch.Tensor | None = None
    deviation: torch.Tensor | None = None

    def update(self, batch: torch.Tensor) -> Moments:
        """Adds a batch (n, tokens, channels) of any dtype; returns itself. Raises ValueError on NaN or infinity."""
        kept = _KEPT[self.per]
        rows = batch.to(torch.float64)  # a float32 sum of squares would lose the variance of features far from zero
        rows = rows.reshape(-1, 1) if kept is None else rows.movedim(kept, -1).flatten(0, -2)
        mean = rows.mean(dim=0)
        deviation = (rows - mean).square().sum(dim=0)
        if not (torch.isfinite(mean).all() and torch.isfinite(deviation).all()):
            raise ValueError("a feature is NaN or infinite")
        return self.merge(Moments(self.per, len(rows), mean, deviation))

    def merge(self, other: Moments) -> Moments:
        """Adds the samples that `other` has seen; returns itself."""
        assert other.per == self.per, "moments of different shapes"
        if not other.count:
            return self
        if not self.count:
            self.count, self.mean, self.deviation = other.count, other.mean.clone(), other.deviation.clone()
            return self
        total = self.count + other.count
        # deviations from the means, never sums of squares: those cancel where the mean is large against the spread
        shift = other.mean - self.mean
        self.mean = self.mean + shift * (other.count / total)
        self.deviation = self.deviation + other.deviation + shift.square() * (self.count * other.count / total)
        self.count = total
        return self

    def cpu(self) -> Moments:
        """The same on the CPU, to be merged with those of other devices."""
        if not self.count:
            return self
        return Moments(self.per, self.count, self.mean.cpu(), self.deviation.cpu())

    def statistics(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(mean, population variance), float64, shaped as the release stores them: (1, C), (N,) or (1,).

        Raises ConfigError when nothing was seen.
        """
        if not self.count:
            raise ConfigError("normalisation: no samples; collect some first")
        mean, variance = self.mean, self.deviation / self.count
        return (mean[None], variance[None]) if self.per == "channel" else (mean, variance)


def statistics_paths(folder: str | Path, feature: str) -> tuple[Path, ...]:
    """Where the mean and variance of a feature are written, of several blocks each one's in turn: `hidden_7` gives the
    release's `block_7_mean_bf16.pt`."""
    folder = expanded(folder)
    if blocks := blocks_in(feature):
        return tuple(statistics_files(folder, blocks))
    return folder / f"{feature}_mean_bf16.pt", folder / f"{feature}_variance_bf16.pt"


def statistics_of(config: StatisticsKeys, feature: str) -> tuple[Path, ...]:
    """The files that a configuration names for a feature, as `statistics_paths`; () for none.

    Raises ConfigError where it names one file for several blocks.
    """
    if config.normalization is not None:
        return tuple(map(find, statistics_paths(config.normalization, feature)))
    if config.normalization_mean_path is None:
        return ()
    if len(blocks_in(feature)) > 1:
        raise ConfigError(
            f"normalization_mean_path: one file, but {feature} reads {len(blocks_in(feature))} blocks; give the folder "
            "of their files: normalization"
        )
    return find(config.normalization_mean_path), find(config.normalization_variance_path)


def encode_statistics(moments: Moments, feature: str) -> tuple[bytes, bytes]:
    """Both statistics as files of bare bfloat16 tensors.

    Raises ConfigError for a variance that is zero somewhere: the features there are constant.
    """
    mean, variance = moments.statistics()
    if (variance <= 0).any():
        raise ConfigError(
            f"{feature}: the variance is zero in {int((variance <= 0).sum())} places; "
            "too few samples, or features that are not a model's output"
        )
    return _encoded(mean), _encoded(variance)


def save_statistics(moments: Moments, folder: str | Path, feature: str) -> tuple[Path, Path]:
    """Writes both statistics, each file whole or not at all. Returns their paths; raises as `encode_statistics`."""
    paths = statistics_paths(folder, feature)
    for path, data in zip(paths, encode_statistics(moments, feature), strict=True):
        write_bytes(path, data)
    return paths


def _encoded(values: torch.Tensor) -> bytes:
    stream = io.BytesIO()
    torch.save(values.to(torch.bfloat16).contiguous(), stream)
    return stream.getvalue()
