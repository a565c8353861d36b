"""Verifiers on one set of candidates: figures worked out by hand, and a real run scored again."""

from __future__ import annotations

import numpy as np
import pytest

from vhs.runs.cascade_table import as_text as cascade_text
from vhs.runs.cascade_table import cascade_rows
from vhs.runs.verifiers_table import Candidates, as_csv, as_text, compare_scores

RIGHT = [[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]]
GOOD = [[4, 1, 2, 3], [1, 4, 3, 2], [1, 2, 3, 4], [4, 3, 2, 1]]
BAD = [[1, 4, 3, 2], [4, 1, 2, 3], [4, 3, 2, 1], [4, 3, 2, 1]]
TAGS = ["colors"] * 4


def table(runs: int = 1, **scores) -> Candidates:
    right = np.array([RIGHT] * runs, dtype=bool)
    return Candidates(right, {name: np.array([rows] * runs, dtype=float) for name, rows in scores.items()}, TAGS)


def test_picks_auc_and_oracle_are_those_worked_out_by_hand() -> None:
    found = compare_scores(table(good=GOOD, bad=BAD))
    good, bad = found.verifiers
    assert (found.prompts, found.runs, found.candidates) == (4, 1, 4)
    assert found.mean[0] == pytest.approx((0.25 + 0.5 + 0 + 1) / 4)
    assert [curve[0] for curve in (good.curve[0], bad.curve[0])] == [found.mean[0]] * 2, "best of 1 is a single one"
    assert good.curve[3][0] == 3 / 4 and bad.curve[3][0] == 1 / 4 and found.oracle[3][0] == 3 / 4
    # n = 2: the right one of prompt 0 is in half of the six pairs and wins there; five of six of prompt 1 have one
    assert good.curve[1][0] == pytest.approx((1 / 2 + 5 / 6 + 0 + 1) / 4) == found.oracle[1][0]
    assert good.auc[0] == 1 and bad.auc[0] == 0


def test_a_pair_has_its_agreement_difference_and_exact_test() -> None:
    pair = compare_scores(table(good=GOOD, bad=BAD)).pairs[0]
    assert (pair.first, pair.second, pair.same_pick) == ("good", "bad", 1 / 4)
    assert pair.correlation == pytest.approx((-1 - 1 - 1 + 1) / 4) and pair.difference[0] == -1 / 2
    assert (pair.only_first, pair.only_second, pair.p_value) == (2, 0, 0.5)
    assert pair.difference[1] <= pair.difference[0] <= pair.difference[2] <= 0


def test_a_verifier_against_itself_differs_in_nothing() -> None:
    pair = compare_scores(table(a=GOOD, b=GOOD)).pairs[0]
    assert pair.difference == (0, 0, 0) and pair.same_pick == 1 and pair.p_value == 1
    assert pair.correlation == pytest.approx(1)


def test_several_seeds_are_resampled_and_have_no_mcnemar() -> None:
    one, two = compare_scores(table(good=GOOD, bad=BAD)), compare_scores(table(2, good=GOOD, bad=BAD))
    assert two.runs == 2 and two.pairs[0].p_value is None
    assert two.verifiers[0].curve[3][0] == one.verifiers[0].curve[3][0]
    differing = table(2, good=GOOD)
    differing.right[1] = ~differing.right[1]
    wide = compare_scores(differing).verifiers[0].curve[3]
    assert wide[2] - wide[1] > 0.2, "seeds that disagree widen the interval"


def test_scores_that_tie_everybody_have_no_correlation_and_the_first_is_picked() -> None:
    found = compare_scores(table(flat=[[0] * 4] * 4, good=GOOD))
    assert found.verifiers[0].curve[3][0] == np.mean([row[0] for row in RIGHT])
    assert found.verifiers[0].auc[0] == 0.5 and np.isnan(found.pairs[0].correlation)


def test_the_tables_say_it_all() -> None:
    found = compare_scores(table(good=GOOD, bad=BAD))
    text = as_text(found)
    assert "4 prompts, 4 candidates each; a single candidate: 43.8 [" in text
    assert "good" in text and "oracle" in text and "bad - good" in text and "2 : 0" not in text and "0 : 2" in text
    rows = as_csv(found).splitlines()
    assert rows[0] == "verifier,n,pick,low,high" and len(rows) == 1 + 3 * 4 and rows[4].startswith("good,4,0.75,")


def test_a_cascade_is_the_first_alone_at_one_and_the_second_alone_at_all() -> None:
    found = cascade_rows(table(good=GOOD, bad=BAD), "bad", "good", None)
    assert [row.keep for row in found] == [1, 2, 4, None] and [row.decoded for row in found] == [1, 2, 4, 4]
    assert [row.rate[0] for row in found] == [1 / 4, 1 / 4, 3 / 4, 3 / 4]
    assert found[0].gain == (0, 0, 0) and found[2].gain[0] == 1 / 2 and found[0].cost is None


def test_a_cascade_s_time_counts_what_is_finished_and_scored_twice() -> None:
    costs = {"encode": 4, "prefix": 1, "score": 1, "finish": 2, "decode": 3, "rerank": 5}
    found = cascade_rows(table(good=GOOD, bad=BAD), "bad", "good", costs)
    hidden = 4 + 4 * (1 + 1) + 5
    assert [row.cost for row in found] == pytest.approx(
        [1, (4 + 8 + 2 * 10) / hidden, (4 + 8 + 4 * 10) / hidden, (4 + 4 + 4 * 10) / hidden]
    )
    assert "bad alone" in (text := cascade_text(found, "bad", "good")) and "keep 2, then good" in text
