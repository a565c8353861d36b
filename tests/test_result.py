"""What `Result` shows, saves and tabulates."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from vhs import result
from vhs.errors import RunError
from vhs.files import read_json
from vhs.records import Score

TEXT = 'a "photo" of <b>two</b> $stars$ & a \u202ering'
COLORS = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (120, 120, 0)]
SCORES = [0.25, -0.5, 0.75, 0.25]
IMAGES = {index: Image.new("RGB", (320, 200), color) for index, color in enumerate(COLORS)}


def score() -> Score:
    p = torch.tensor([0.25, 0.5, 0.75, 0.25])
    return Score(p, 1 - p, torch.tensor([True, False, True, True]), torch.tensor(SCORES))


def test_the_text_is_short_and_names_the_winner() -> None:
    assert result.summary("a cat", SCORES, 2, 4) == "Result('a cat', candidate 2 of 4, score +0.750)"
    assert result.summary("a " * 50, [], 0, 4).endswith("...', candidate 0 of 4)")


def test_candidates_stand_in_the_order_of_their_scores_ties_in_their_own() -> None:
    assert result.order(SCORES, 4) == [2, 0, 3, 1] and result.order([], 3) == [0, 1, 2]


def test_the_strip_shows_what_is_decoded_and_the_prompt_as_text() -> None:
    whole = result.strip(TEXT, IMAGES, SCORES, 2, 4)
    assert whole.count("<img") == 4 and whole.count("outline:") == 1 and "<b>" not in whole
    assert whole.index("+0.750 best") < whole.index("+0.250") < whole.index("-0.500")
    winner = result.strip(TEXT, {2: IMAGES[2]}, SCORES, 2, 4)
    assert winner.count("<img") == 1 and "3 candidates are not decoded" in winner


def test_rows_hold_every_answer_and_none_where_there_is_none() -> None:
    rows = result.table(score(), 2, 4)
    assert rows[1] == {
        "candidate": 1,
        "score": -0.5,
        "p_yes": 0.5,
        "p_no": 0.5,
        "says_yes": False,
        "best": False,
    }
    assert [row["best"] for row in rows] == [False, False, True, False]
    assert result.table(None, 0, 2)[1]["score"] is None
    plain = SimpleNamespace(score=torch.tensor(SCORES), p_yes=None, p_no=None, correct=None)
    assert [row["score"] for row in result.table(plain, 2, 4)] == SCORES


def test_a_table_needs_pandas_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(RunError, match="pandas is not installed; pip install pandas"):
        result.frame(result.table(score(), 2, 4))


def test_a_table_has_a_row_per_candidate() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is optional and not installed")
    found = result.frame(result.table(score(), 2, 4))
    assert isinstance(found, pandas.DataFrame) and found.index.name == "candidate" and found["score"].idxmax() == 2


def test_saving_writes_pictures_and_answers(tmp_path: Path) -> None:
    folder = result.save(tmp_path / "new" / "folder", TEXT, IMAGES, result.table(score(), 2, 4), 2)
    names = {"best.png", "result.json", *(f"candidate_{index:05d}.png" for index in range(4))}
    assert {file.name for file in folder.iterdir()} == names
    assert Image.open(folder / "best.png").getpixel((0, 0)) == COLORS[2]
    saved = read_json(folder / "result.json")
    assert saved["prompt"] == TEXT and saved["best_index"] == 2 and saved["candidates"][2]["score"] == 0.75


def test_the_figure_shows_every_decoded_candidate_and_frames_one(tmp_path: Path) -> None:
    figure = result.plot(TEXT, IMAGES, SCORES, 2, 4)
    figure.savefig(tmp_path / "strip.png", dpi=80)
    pixels = np.asarray(Image.open(tmp_path / "strip.png").convert("RGB"), dtype=int)
    for color in COLORS:
        assert (np.abs(pixels - color).max(axis=-1) < 8).mean() > 0.02
    frame = (np.abs(pixels - (242, 161, 0)).max(axis=-1) < 12).any(axis=0)
    assert frame.any() and frame[: frame.size // 3].any() and not frame[frame.size // 2 :].any()
    assert [axes.get_xlabel() for axes in figure.axes] == ["+0.750", "+0.250", "+0.250", "-0.500"]
