"""The figures that a verifier is judged by, against values worked out by hand or by enumeration."""

from itertools import combinations

import numpy as np
import pytest

from vhs import metrics


def test_auc_by_hand():
    assert metrics.auc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]) == 0.75
    assert metrics.auc([1, 1, 1], [0, 1, 1]) == 0.5  # all tied
    assert metrics.auc([2, 1, 1], [1, 0, 1]) == pytest.approx(0.75)  # (1 + 0.5) / 2


def test_auc_equals_counting_pairs():
    rng = np.random.default_rng(0)
    scores, verdicts = rng.integers(0, 6, 40), rng.random(40) < 0.4
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[verdicts] for b in scores[~verdicts]]
    assert metrics.auc(scores, verdicts) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_within_prompt_auc_ignores_what_only_the_prompt_tells():
    """Scores that rank prompts but not candidates: pooled AUC is high, the one within a prompt is a coin's."""
    groups = np.repeat([0, 1], 10)
    verdicts = np.r_[np.arange(10) < 8, np.arange(10) < 2]
    scores = np.repeat([0.9, 0.1], 10)
    assert metrics.auc(scores, verdicts) > 0.75
    assert metrics.within_prompt_auc(groups, scores, verdicts) == 0.5


def test_within_prompt_auc_leaves_out_groups_of_one_verdict():
    groups = ["a", "a", "b", "b", "c", "c"]
    assert metrics.within_prompt_auc(groups, [1, 0, 1, 0, 0, 1], [1, 1, 1, 0, 1, 0]) == 0.5
    assert np.isnan(metrics.within_prompt_auc(["a", "a"], [1, 0], [1, 1]))


def test_expected_pick_equals_enumeration_with_ties():
    rng = np.random.default_rng(1)
    for _ in range(20):
        scores, verdicts = rng.integers(0, 4, 7).astype(float), rng.random(7) < 0.5
        for n in (1, 2, 5, 7):
            picks = [verdicts[list(chosen)][np.argmax(scores[list(chosen)])] for chosen in combinations(range(7), n)]
            assert metrics.expected_pick(scores, verdicts, n) == pytest.approx(np.mean(picks), abs=1e-12)


def test_first_pick_takes_the_first_of_a_tie():
    assert metrics.first_pick(np.array([0.5, 0.5, 0.9]), np.array([True, False, False]), 2) == 1.0
    assert metrics.first_pick(np.array([0.5, 0.5, 0.9]), np.array([True, False, False]), 3) == 0.0


def test_curve_between_single_and_oracle():
    groups = np.repeat(np.arange(50), 8)
    rng = np.random.default_rng(2)
    verdicts = rng.random(400) < 0.5
    scores = verdicts + rng.normal(0, 0.7, 400)
    rows = metrics.best_of_n_curve(groups, scores, verdicts, [1, 4, 8])
    means = [row["verifier"].mean for row in rows]
    assert means[0] == pytest.approx(verdicts.mean()) and means[0] < means[1] < means[2]
    assert all(row["verifier"].mean <= row["oracle"].mean for row in rows)
    assert rows[0]["gain"].mean == 0 and rows[2]["gain"].low > 0


def test_best_of_n_refuses_too_small_a_group():
    with pytest.raises(ValueError, match="best of 3 needs 3"):
        metrics.best_of_n([0, 0], [1, 2], [1, 0], 3)


def test_calibration_and_accuracy_by_hand():
    table = metrics.calibration([0.05, 0.95, 0.85, 1.0], [0, 1, 0, 1])
    assert table["error"] == pytest.approx((0.05 + 0.05 + 0.85) / 4)  # bins 0, 8 and 9 (0.95 and 1.0 together)
    assert table["bins"][9]["count"] == 2
    found = metrics.accuracy([1, 1, 0, 0], [1, 0, 0, 0])
    assert found == {
        "accuracy": 0.75,
        "of_right": 1.0,
        "of_wrong": pytest.approx(2 / 3),
        "balanced": pytest.approx(5 / 6),
    }


def test_histogram_keeps_every_row():
    counts = metrics.histogram([-1, -0.2, 0.3, 1.0], [0, 0, 1, 1], bins=4)
    assert counts["right"] == [0, 0, 1, 1] and counts["wrong"] == [1, 1, 0, 0]
