"""Figures of a run against values worked out by hand, the sheet's marks, and two runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vhs.config.run import RunConfig
from vhs.errors import RunError
from vhs.files import write_json
from vhs.pictures import encode
from vhs.records import Prompt
from vhs.runs.compare import faster, milliseconds, savings, winners
from vhs.runs.contact_sheet import FRAME, GAP, LABEL, ROW, TILE, draw_sheet
from vhs.runs.folder import RunFolder
from vhs.runs.tables import Run, closing_table, columns, summary

VERDICTS = {0: [1, 0, 0, 1], 1: [0, 0, 0, 0], 2: [1, 1, 1, 1], 3: [0, 1, 0, 0]}
TAGS = {0: "counting", 1: "counting", 2: "colors", 3: "colors"}
WINNERS = {0: 1, 1: 2, 2: 0, 3: 1}


def made(mode: str = "dev", free: int = 0) -> Run:
    prompts = [Prompt(i, f"prompt {i}", {"tag": TAGS[i], "include": [{}], "prompt": ""}) for i in VERDICTS]
    rows: dict[int, list[dict[str, Any]]] = {}
    for number, verdicts in VERDICTS.items():
        rows[number] = [{"score": 0.5 + index / 10} for index in range(4)]
        for index, verdict in enumerate(verdicts):
            if mode == "dev" or index == WINNERS[number]:
                rows[number][index] |= {
                    "tag": TAGS[number],
                    "correct": bool(verdict),
                    "reason": "" if verdict else "none found",
                }
    prompts += [Prompt(4 + i, "free") for i in range(free)]
    rows |= {4 + i: [{"score": 0.1 * index} for index in range(4)] for i in range(free)}
    return Run(mode, 4, prompts, rows, {**WINNERS, **{4 + i: 3 for i in range(free)}})


def test_mean_pick_and_oracle_are_those_worked_out_by_hand() -> None:
    table = columns(made(free=1))
    values = {
        name: (one.tags["counting"].value, one.tags["colors"].value, one.over_tags.value, one.over_prompts.value)
        for name, one in table.items()
    }
    assert values == {
        "mean_of_candidates": (0.25, 0.625, 0.4375, 0.4375),
        "pick": (0.0, 1.0, 0.5, 0.5),
        "oracle": (0.5, 1.0, 0.75, 0.75),
    }


def test_the_summary_counts_what_was_judged_and_a_prod_run_knows_its_picks_only() -> None:
    whole, quick = summary(made(free=2)), summary(made("prod"))
    assert whole["counts"] == {"prompts": 6, "judged_prompts": 4, "candidates_per_prompt": 4, "judged_pictures": 16}
    assert (
        quick["tags"]["colors"]["oracle"] is None and quick["tags"]["colors"]["pick"] == whole["tags"]["colors"]["pick"]
    )
    assert quick["overall"]["overall_prompts"]["pick"]["value"] == 0.5 and quick["counts"]["judged_pictures"] == 4


def test_the_closing_table_has_a_row_per_tag_and_both_overalls() -> None:
    lines = closing_table(made()).splitlines()
    assert [line.split("  ")[0] for line in lines if line[0] not in "- "] == [
        "counting",
        "colors",
        "mean over tags",
        "mean over prompts",
    ]
    free = Run(
        "dev", 4, [Prompt(0, "x")], {0: [{"score": 0.1}, {"score": 0.3}, {"score": 0.2}, {"score": 0.2}]}, {0: 1}
    )
    assert closing_table(free) == (
        "nothing was judged; the verifier's score is 0.2000 on average over candidates, 0.3000 over winners"
    )


@pytest.fixture
def folder(run_keys) -> RunFolder:
    return RunFolder(RunConfig(**run_keys))


def test_the_sheet_frames_the_winner_and_leaves_a_gap_where_no_picture_is(folder: RunFolder) -> None:
    run = made("prod")
    picture = encode(Image.new("RGB", (64, 32), "blue"), "png")
    for prompt in run.prompts:
        folder.write_prompt(prompt, run.winners[prompt.id], {run.winners[prompt.id]: picture}, run.rows[prompt.id])
    sheet = np.asarray(draw_sheet(folder, run, run.prompts))
    assert sheet.shape == (4 * ROW + GAP, LABEL + 4 * (TILE + GAP) + GAP, 3)
    frame = tuple(int(FRAME[i : i + 2], 16) for i in (1, 3, 5))
    for number, prompt in enumerate(run.prompts):
        top = GAP + number * ROW
        framed = [tuple(sheet[top + TILE // 2, LABEL + index * (TILE + GAP) - 2]) == frame for index in range(4)]
        assert framed == [index == run.winners[prompt.id] for index in range(4)]
        middle = [tuple(sheet[top + TILE // 2, LABEL + index * (TILE + GAP) + TILE // 2]) for index in range(4)]
        assert middle == [(0, 0, 255) if index == run.winners[prompt.id] else (238, 238, 238) for index in range(4)]


def timings(**milliseconds: float) -> dict[str, Any]:
    row = {name: {"seconds": value / 1000, "calls": 1, "items": 1} for name, value in milliseconds.items()}
    return {
        "prompts": {
            "00000": row,
            "00001": row,
            "00002": {name: {**stage, "seconds": 9} for name, stage in row.items()},
        },
        "stages": {name: {"seconds": 1, "calls": 3, "items": 3} for name in row},
    }


def test_savings_are_medians_of_what_was_measured() -> None:
    dev, prod = timings(prefix=10, finish=30, decode=40, judge=500), timings(prefix=10, finish=5, decode=5, judge=60)
    assert milliseconds(dev, ("prefix", "finish")) == pytest.approx(40)
    assert "the early exit: 4.00 times as fast to a prompt's winner (+60.0 ms)" in faster(dev, prod)
    assert "no time saved in this measurement" in faster(prod, dev)
    assert "to the winner                     80.0                    20.0" in savings(dev, prod)


def test_winners_come_from_every_process_s_file(tmp_path: Path) -> None:
    for process, number in ((0, 1), (1, 0)):
        rows = [{"filename": f"out/a/gen_eval_a/{number:05d}/samples/best_00002.png", "gen_idx_gt": 2 + number}]
        write_json(tmp_path / "gen_eval_a" / f"best_annotations_proc_v_id_proc_{process}.json", rows)
    assert winners(tmp_path) == {"00000": 2, "00001": 3}
    with pytest.raises(RunError, match="finish the run first"):
        winners(tmp_path / "none")
