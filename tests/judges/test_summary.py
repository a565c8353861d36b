"""A judge's tables, on numbers worked out by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from vhs.judges.summary import MEAN, ORACLE, PICK, as_json, as_text, tables
from vhs.records import Prompt

PROMPTS = [Prompt(0, "a", {"prompt": "a", "skills": ["x", "y", "y"]}), Prompt(1, "b", {"prompt": "b", "skills": ["y"]})]
ATOMS = {0: [[0.5, 0.2, 0.8], [1.0, 0.0, 0.4]], 1: [[0.6], [0.9]]}
WINNERS = {0: 1, 1: 0}
JUDGE = SimpleNamespace(
    name="facts",
    measures=lambda record, fields: {
        "mean": [("all", sum(fields["atoms"]) / len(fields["atoms"]))],
        "by skill": list(zip(record["skills"], fields["atoms"], strict=True)),
    },
)


def rows(atoms: dict[int, list]) -> dict[int, list]:
    return {
        prompt: [{} if one is None else {"judges": {"facts": {"atoms": one}}} for one in candidates]
        for prompt, candidates in atoms.items()
    }


def test_mean_pick_and_oracle_of_every_table() -> None:
    """The oracle picks by the first table: candidate 0 of the first prompt, candidate 1 of the second."""
    found = tables(JUDGE, PROMPTS, rows(ATOMS), WINNERS)
    mean = found["mean"].columns
    assert mean[PICK].over_prompts.value == pytest.approx((1.4 / 3 + 0.6) / 2)
    assert mean[MEAN].over_prompts.value == pytest.approx(((1.5 + 1.4) / 6 + 0.75) / 2)
    assert mean[ORACLE].over_prompts.value == pytest.approx((0.5 + 0.9) / 2)
    skills = found["by skill"].columns
    assert skills[PICK].tags["y"].value == pytest.approx((0.0 + 0.4 + 0.6) / 3), "a mean over questions, not prompts"
    assert skills[ORACLE].tags["y"].value == pytest.approx((0.2 + 0.8 + 0.9) / 3)
    assert skills[MEAN].tags["x"].value == pytest.approx(0.75)
    assert found["mean"].overall and not found["by skill"].overall


def test_summary_and_text() -> None:
    found = tables(JUDGE, PROMPTS, rows(ATOMS), WINNERS)
    written = as_json(found)
    cell = written["mean"]["overall"][PICK]
    assert cell["low"] <= cell["value"] <= cell["high"] and written["mean"]["rows"]["all"]["prompts"] == 2
    assert "overall" not in written["by skill"] and written["by skill"]["rows"]["x"]["prompts"] == 1
    text = as_text("facts", found, {PICK: "chosen"})
    assert text.startswith("facts: mean\n") and "chosen %" in text and text.count("mean over prompts") == 1
    assert "mean over tags" not in text


def test_where_winners_alone_were_judged_there_is_the_pick_alone() -> None:
    atoms = {0: [None, ATOMS[0][1]], 1: [ATOMS[1][0], None]}
    found = tables(JUDGE, PROMPTS, rows(atoms), WINNERS)
    assert list(found["mean"].columns) == [PICK]
    assert found["mean"].columns[PICK].over_prompts.value == pytest.approx((1.4 / 3 + 0.6) / 2)


def test_prompts_that_a_judge_passed_over_do_not_count() -> None:
    assert tables(JUDGE, PROMPTS, rows({0: [None, None], 1: [None, None]}), WINNERS) == {}
    found = tables(JUDGE, PROMPTS, rows({0: [None, None], 1: ATOMS[1]}), WINNERS)
    assert found["mean"].columns[PICK].over_prompts.prompts == 1
