"""GenEval's table from verdicts: per tag, both overalls, intervals. Pure functions; numpy only."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from vhs.bootstrap import RESAMPLES, percentile_interval
from vhs.records import TAGS


class Outcome(NamedTuple):
    """One judged picture: whose prompt, which tag, and 1 for correct (or any rate in 0..1)."""

    prompt: Hashable
    tag: str
    correct: float


@dataclass(frozen=True)
class Figure:
    """A rate in 0..1, its 95 % bootstrap interval, and what it was taken over."""

    value: float
    low: float
    high: float
    images: int
    prompts: int


@dataclass(frozen=True)
class Summary:
    """`tags` in GenEval's order; `over_tags` is GenEval's overall, `over_prompts` the paper's."""

    tags: Mapping[str, Figure]
    over_tags: Figure
    over_prompts: Figure

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def summarize(outcomes: Iterable[Outcome], *, resamples: int = RESAMPLES, seed: int = 0) -> Summary:
    """Rates per tag and overall.

    A tag's rate is the mean over its pictures, as GenEval's summary takes it; `over_tags` is the mean of the tags'
    rates and `over_prompts` the mean over prompts of each prompt's own rate: with equally many pictures a prompt, the
    mean over all pictures. Intervals: percentiles 2.5 and 97.5 of `resamples` draws of prompts with replacement, within
    each tag, since how many prompts a tag has is the benchmark's design and no chance. A tag whose prompts are each
    right or wrong has Wilson's interval: of 6 right ones out of 6 a bootstrap draws nothing but 6 right ones.
    """
    groups = _by_tag(outcomes)
    assert groups, "nothing to summarise"
    rng = np.random.default_rng(seed)
    drawn = {tag: _Draws.of(table, rng, resamples) for tag, table in groups.items()}
    tags = {tag: one.figure() for tag, one in drawn.items()}
    images, prompts = (sum(getattr(f, key) for f in tags.values()) for key in ("images", "prompts"))
    over_tags = _figure(
        np.mean([f.value for f in tags.values()]),
        np.mean([one.rates for one in drawn.values()], axis=0),
        images,
        prompts,
    )
    value = sum(one.prompt_sum for one in drawn.values()) / prompts
    over_prompts = _figure(value, sum(one.prompt_sums for one in drawn.values()) / prompts, images, prompts)
    return Summary(tags, over_tags, over_prompts)


def wilson(right: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of the share `right` / `count`, which few trials and shares near 0 or 1 do not break."""
    share, z = right / count, 1.959964
    middle = share + z * z / (2 * count)
    reach = z * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return max(0.0, (middle - reach) / (1 + z * z / count)), min(1.0, (middle + reach) / (1 + z * z / count))


def outcomes_of(rows: Iterable[Mapping[str, Any]]) -> list[Outcome]:
    """Outcomes from rows of a results file; pictures with the same `metadata` are of one prompt, as GenEval has it."""
    return [Outcome(row["metadata"], row["tag"], float(row["correct"])) for row in rows]


OVERALLS = {"over_tags": "mean over tags", "over_prompts": "mean over prompts"}


def format_table(columns: Mapping[str, Summary], overalls: Sequence[str] = tuple(OVERALLS)) -> str:
    """A plain-text table, in %: a row per tag and per overall, a column per summary with its interval."""
    first = next(iter(columns.values()))
    rows = [("", *(f"{name} %" for name in columns))]
    rows += [(tag, *(format_figure(s.tags[tag]) for s in columns.values())) for tag in first.tags]
    rows += [(OVERALLS[name], *(format_figure(getattr(s, name)) for s in columns.values())) for name in overalls]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    lines.insert(1, "-" * len(lines[0]))
    if overalls:
        lines.insert(-len(overalls), lines[1])
    return "\n".join(lines)


def format_figure(figure: Figure) -> str:
    """`80.5 [77.2, 83.6]`, in %."""
    return f"{100 * figure.value:.1f} [{100 * figure.low:.1f}, {100 * figure.high:.1f}]"


@dataclass(frozen=True)
class _Draws:
    """One tag: sums over its P prompts, and the same for R resamples of them."""

    rate: float
    rates: np.ndarray
    prompt_sum: float
    prompt_sums: np.ndarray
    images: int
    prompts: int
    whole: bool

    @classmethod
    def of(cls, table: Sequence[tuple[float, int]], rng: np.random.Generator, resamples: int) -> _Draws:
        """`table` has (sum of correct, pictures) per prompt."""
        correct, images = np.array(table, dtype=np.float64).T
        own = correct / images
        pick = rng.integers(0, len(own), size=(resamples, len(own)))
        whole = bool(np.isin(own, (0.0, 1.0)).all())
        rates = correct[pick].sum(1) / images[pick].sum(1)
        return cls(correct.sum() / images.sum(), rates, own.sum(), own[pick].sum(1), int(images.sum()), len(own), whole)

    def figure(self) -> Figure:
        if self.whole:
            return Figure(float(self.rate), *wilson(self.prompt_sum, self.prompts), self.images, self.prompts)
        return _figure(self.rate, self.rates, self.images, self.prompts)


def _figure(value: float, draws: np.ndarray, images: int, prompts: int) -> Figure:
    return Figure(float(value), *percentile_interval(draws), images, prompts)


def _by_tag(outcomes: Iterable[Outcome]) -> dict[str, list[tuple[float, int]]]:
    """Tag -> (sum of correct, pictures) of each of its prompts, tags in GenEval's order, others as they come."""
    sums: dict[str, dict[Hashable, tuple[float, int]]] = {}
    for prompt, tag, correct in outcomes:
        of_tag = sums.setdefault(tag, {})
        total, images = of_tag.get(prompt, (0.0, 0))
        of_tag[prompt] = (total + float(correct), images + 1)
    order = {tag: index for index, tag in enumerate(TAGS)}
    return {tag: list(sums[tag].values()) for tag in sorted(sums, key=lambda tag: order.get(tag, len(TAGS)))}
