"""Adaptive N from scores that are there: by hand, and from a run's folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vhs.commands import main
from vhs.measure.stopping import costs, fixed, orders, outcome, spread, stopped
from vhs.runs.report.analysis import Judged
from vhs.streaming import Stop

SCORES = np.array([[0.2, 0.9, 0.1, 0.95], [0.3, 0.1, 0.4, 0.2]])
RIGHT = np.array([[False, True, False, False], [False, False, True, False]])


@pytest.mark.parametrize(
    ("policy", "spent", "right"),
    [
        (fixed(1), [1, 1], [False, False]),
        (fixed(4), [4, 4], [False, True]),
        (stopped(0.9), [2, 4], [True, True]),
        (stopped(0.2), [1, 1], [False, False]),
        (stopped(0.2, least=3), [3, 3], [True, True]),
        (spread(2), [2, 2], [True, False]),
        (spread(3), [2, 4], [True, True]),
    ],
)
def test_who_gets_how_many(policy, spent, right) -> None:
    found = outcome(policy, SCORES, RIGHT)
    assert found[0].tolist() == spent and found[1].tolist() == right


@pytest.mark.parametrize("least", [1, 3])
def test_a_prompt_ends_where_a_run_ends_it(least) -> None:
    scores = np.random.default_rng(0).random((50, 8))
    expected = [Stop(0.8, least).after(row.tolist()) or 8 for row in scores]
    assert stopped(0.8, least)(scores).tolist() == expected


def test_an_order_keeps_scores_and_verdicts_together() -> None:
    table = Judged(SCORES, RIGHT, ["colors"] * 2)
    for scores, right in orders(table, 20):
        assert scores[right].tolist() == [0.9, 0.4] and np.sort(scores, axis=1).tolist() == np.sort(SCORES).tolist()


def test_the_budget_goes_to_prompts_that_need_it() -> None:
    """Half of the prompts are right at once, the others in one candidate of 16."""
    scores = np.full((40, 16), 0.1)
    scores[:20], scores[np.arange(20, 40), 0] = 0.99, 0.9
    rows = {row["name"]: row for row in costs(Judged(scores, scores > 0.5, ["colors"] * 40), (0.9,), count=20)}
    even, by_score, ended = rows["N = 4"], rows["4 on average, by score"], rows["stop_when: 0.9"]
    assert even["candidates"] == by_score["candidates"] == 4 and by_score["right"] > even["right"] + 0.05
    assert ended["right"] == 1 and ended["candidates"] < 16 == rows["N = 16"]["candidates"]


def test_the_command_reads_a_run(run_keys, judge_keys, config_file, tmp_path: Path, capsys) -> None:
    file = config_file({**run_keys, **judge_keys, "generation_mode": "dev", "num_samples": 3})
    assert main(["run", "--config", file]) == 0
    folder = str(Path(run_keys["output_path"], "small"))
    assert main(["benchmark", "stop", "--run", folder, "--out", str(tmp_path / "out")]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [row["candidates"] for row in said["rows"] if row["policy"] == "fixed"] == [1, 2, 3]
    assert "| N = 3 | 3.00 |" in (tmp_path / "out" / "stop_when.md").read_text()
    assert (tmp_path / "out" / "stop_when.png").is_file()
    assert main(["run", "--config", file, "generation_mode=prod", "name=quick"]) == 0
    assert main(["benchmark", "stop", "--run", folder.replace("small", "quick")]) == 2
    assert "run it in dev" in capsys.readouterr().err
