"""Rates worked out by hand, and intervals that resample prompts."""

from __future__ import annotations

import math

import pytest

from vhs.geneval.summary import Outcome, format_table, outcomes_of, summarize

# single_object: prompt 0 right twice, prompt 1 right once of two; position: prompt 2 wrong, one picture only
OUTCOMES = [
    Outcome(2, "position", 0),
    Outcome(0, "single_object", 1),
    Outcome(0, "single_object", 1),
    Outcome(1, "single_object", 0),
    Outcome(1, "single_object", 1),
]


def test_rates_are_those_worked_out_by_hand():
    summary = summarize(OUTCOMES)
    assert list(summary.tags) == ["single_object", "position"]
    assert summary.tags["single_object"].value == pytest.approx(3 / 4)
    assert summary.over_tags.value == pytest.approx((3 / 4 + 0) / 2)
    assert summary.over_prompts.value == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert (summary.over_prompts.images, summary.over_prompts.prompts) == (5, 3)


def test_a_tag_is_the_mean_over_pictures_where_prompts_have_unequally_many():
    outcomes = [Outcome(0, "colors", 1)] * 3 + [Outcome(1, "colors", 0)]
    summary = summarize(outcomes)
    assert summary.tags["colors"].value == pytest.approx(3 / 4)
    assert summary.over_prompts.value == pytest.approx(1 / 2)


def test_interval_has_the_width_of_a_binomial_mean_and_counts_prompts_not_pictures():
    outcomes = [Outcome(i, "counting", i % 2) for i in range(400)]
    width = 2 * 1.96 * math.sqrt(0.25 / 400)
    once = summarize(outcomes).tags["counting"]
    assert once.high - once.low == pytest.approx(width, rel=0.1)
    many = summarize(outcomes * 4).tags["counting"]
    assert many.high - many.low == pytest.approx(width, rel=0.1)
    overall = summarize(outcomes).over_prompts
    assert overall.high - overall.low == pytest.approx(width, rel=0.1)


def test_interval_is_a_function_of_the_seed():
    outcomes = [Outcome(i, "counting", i % 3 == 0) for i in range(50)]
    assert summarize(outcomes) == summarize(outcomes)
    assert summarize(outcomes, seed=1).over_prompts != summarize(outcomes).over_prompts


def test_few_prompts_that_are_all_right_leave_room_for_doubt():
    figure = summarize([Outcome(i, "colors", 1) for i in range(6)]).tags["colors"]
    assert (figure.value, figure.high) == (1.0, 1.0) and figure.low == pytest.approx(0.6097, abs=1e-4)
    mixed = summarize([Outcome(i, "colors", rate) for i, rate in enumerate((0.5, 1, 1))]).tags["colors"]
    assert mixed.low == 0.5  # a bootstrap: rates between 0 and 1 are no trials


def test_rows_of_a_results_file_are_grouped_by_their_metadata():
    rows = [{"metadata": "m", "tag": "colors", "correct": True}, {"metadata": "m", "tag": "colors", "correct": False}]
    assert summarize(outcomes_of(rows)).over_prompts.prompts == 1


def test_table_shows_every_tag_and_both_overalls():
    table = format_table({"pick": summarize(OUTCOMES)})
    assert "single_object      75.0" in table
    assert [line.split("  ")[0] for line in table.splitlines()[2:4]] == ["single_object", "position"]
    assert "mean over tags" in table and "mean over prompts" in table
