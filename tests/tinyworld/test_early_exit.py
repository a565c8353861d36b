"""The table of exits: costs rise with the step, best-of-N is that of the step's own scores."""

import pytest

from vhs.tinyworld import early_exit

FOUND = {
    "groups": [0, 0, 1, 1],
    "verdicts": [True, False, False, True],
    "steps": 2,
    "exits": [
        {"step": 1, "block": 7, "share": 0.1, "scores": [0.1, 0.9, 0.2, 0.8]},
        {"step": 2, "block": 7, "share": 0.6, "scores": [0.9, 0.1, 0.2, 0.8]},
    ],
}


def test_a_later_step_costs_more_and_is_judged_by_its_own_scores():
    first, second = early_exit.rows(FOUND, candidates=2)
    assert first["pictures"] == pytest.approx(2 * 0.1 + 0.9) and second["pictures"] == pytest.approx(2 * 0.6 + 0.4)
    assert (first["best"].mean, second["best"].mean) == (0.5, 1.0)
    text = early_exit.table(FOUND, candidates=2)
    assert (
        "one candidate 50.0" in text and "a perfect pick of 2 100.0" in text and "| 7 | 2 of 2 | 60 % | 1.6 |" in text
    )
