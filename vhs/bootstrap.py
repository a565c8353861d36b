"""Bootstrap intervals, for the figures on a verifier and for GenEval's table. Pure functions; numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
_TAIL = (1 - 0.95) / 2


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % bootstrap interval; `count` is the number of values behind the mean."""

    mean: float
    low: float
    high: float
    count: int


def percentile_interval(draws: np.ndarray, low: float = 0.025, high: float = 0.975) -> tuple[float, float]:
    """The interval that holds 95 % of a statistic's resampled values `draws` (R,)."""
    bounds = np.quantile(draws, [low, high])
    return float(bounds[0]), float(bounds[1])


def bootstrap(
    values: Sequence[float], clusters: Sequence | None = None, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """The mean of `values` and its interval, resampling whole clusters (prompts) with replacement.

    `clusters` names each value's cluster; each value is its own when absent. NaN for no values.
    """
    values = np.asarray(values, dtype=np.float64)
    if not len(values):
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    member = np.arange(len(values))
    if clusters is not None:
        _, member = np.unique([str(cluster) for cluster in clusters], return_inverse=True)
    sums, counts = np.bincount(member, weights=values), np.bincount(member)
    draws = np.random.default_rng(seed).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=resamples)
    # _TAIL is 0.025 and a rounding error: published figures were computed with it and keep their last digit
    low, high = percentile_interval((draws @ sums) / (draws @ counts), low=_TAIL)
    return Interval(float(values.mean()), low, high, len(values))


def bootstrap_crossed(
    values: Sequence[float],
    clusters: Sequence,
    seeds: Sequence,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """As `bootstrap`, resampling clusters (prompts) and, independently, seeds: where every prompt was drawn under the
    same few seeds. One seed leaves the interval over clusters."""
    values = np.asarray(values, dtype=np.float64)
    if not len(values) or len(set(seeds)) < 2:
        return bootstrap(values, clusters, resamples, seed)
    _, row = np.unique([str(cluster) for cluster in clusters], return_inverse=True)
    _, column = np.unique([str(one) for one in seeds], return_inverse=True)
    shape = row.max() + 1, column.max() + 1
    sums, counts = np.zeros(shape), np.zeros(shape)
    np.add.at(sums, (row, column), values)
    np.add.at(counts, (row, column), 1)
    rng = np.random.default_rng(seed)
    rows, columns = (rng.multinomial(size, np.full(size, 1 / size), size=resamples) for size in shape)
    weights = np.einsum("ra,ab,rb->r", rows, counts, columns)
    drawn = np.einsum("ra,ab,rb->r", rows, sums, columns)
    low, high = percentile_interval(drawn[weights > 0] / weights[weights > 0])
    return Interval(float(values.mean()), low, high, len(values))
