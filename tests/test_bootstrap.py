"""Intervals: what is resampled, and the very numbers that earlier versions wrote."""

import numpy as np
import pytest

from vhs.bootstrap import Interval, bootstrap
from vhs.geneval.summary import Outcome, summarize

VALUES = np.random.default_rng(5).random(90).round(3)


def test_bootstrap_resamples_clusters():
    """Copying each prompt's value ten times must not narrow the interval when the prompts are the clusters."""
    values = np.random.default_rng(3).random(40)
    plain = bootstrap(values)
    copied = bootstrap(np.repeat(values, 10), np.repeat(np.arange(40), 10))
    naive = bootstrap(np.repeat(values, 10))
    assert copied.mean == pytest.approx(plain.mean)
    assert copied.high - copied.low == pytest.approx(plain.high - plain.low, rel=0.1)
    assert naive.high - naive.low < 0.5 * (plain.high - plain.low)
    error = values.std() / np.sqrt(40)
    assert plain.high - plain.low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_intervals_keep_every_digit_of_earlier_versions():
    """summary.json and evaluation.json must not change by a byte."""
    prompts = [f"p{i % 30}" for i in range(90)]
    mean = 0.5167777777777778
    assert bootstrap(VALUES, prompts, 500, 3) == Interval(mean, 0.4571136111111111, 0.5828725, 90)
    assert bootstrap(VALUES) == Interval(mean, 0.4577183333333334, 0.5780016666666667, 90)
    outcomes = [Outcome(i // 3, ["colors", "position"][i // 3 % 2], float(v > 0.4)) for i, v in enumerate(VALUES)]
    summary = summarize(outcomes, resamples=500, seed=1)
    assert (summary.over_tags.low, summary.over_tags.high) == (0.5386111111111112, 0.705833333333333)
    assert (summary.over_prompts.value, summary.over_prompts.low) == (0.6222222222222221, 0.538611111111111)


def test_no_values_have_no_mean():
    assert bootstrap([]).count == 0 and np.isnan(bootstrap([]).mean)


def test_a_crossed_bootstrap_covers_prompts_and_seeds() -> None:
    """Values that differ between seeds alone: an interval over prompts has no width, one over both has."""
    from vhs.bootstrap import bootstrap, bootstrap_crossed

    prompts, seeds = [p for p in range(50) for _ in range(4)], list(range(4)) * 50
    values = [float(seed) for seed in seeds]
    over_prompts, both = bootstrap(values, prompts), bootstrap_crossed(values, prompts, seeds)
    assert over_prompts.low == over_prompts.high == 1.5
    assert both.mean == 1.5 and both.low <= 0.75 and both.high >= 2.25
    one = [value for value, seed in zip(values, seeds, strict=True) if not seed]
    assert bootstrap_crossed(one, range(50), [0] * 50) == bootstrap(one, range(50))
