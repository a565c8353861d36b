"""Scores from a file: every mismatch is one line before anything runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from vhs.errors import RunError
from vhs.records import Prompt
from vhs.verifiers.score_file import ScoreFile, match_pictures, picture_hash, read_score_file, write_score_file

PROMPTS = [Prompt(0, "a cat"), Prompt(1, "a dog")]
ROWS = [{"prompt_id": p, "candidate": c, "score": p + c / 10} for p in (0, 1) for c in (0, 1, 2)]


def written(folder: Path, rows: list) -> Path:
    write_score_file(folder / "scores.jsonl", rows)
    return folder / "scores.jsonl"


def test_scores_are_found_by_prompt_and_candidate_in_any_order(tmp_path) -> None:
    named = [
        {"picture": f"out/{r['prompt_id']:05d}/samples/img_{r['candidate']:05d}.jpg", "score": 1} for r in ROWS[:3]
    ]
    verifier = ScoreFile(written(tmp_path, [*ROWS[:2:-1], *named]))
    verifier.require(PROMPTS, 3)
    assert verifier.score_prompt(PROMPTS[1], 3).score.tolist() == pytest.approx([1, 1.1, 1.2])
    assert verifier.score_prompt(PROMPTS[0], 2).score.tolist() == [1, 1] and verifier.reads == "nothing"


def test_answers_are_kept_where_every_row_has_them(tmp_path) -> None:
    rows = [{**row, "p_yes": 0.7, "p_no": 0.1, "correct": row["candidate"] > 0} for row in ROWS]
    score = ScoreFile(written(tmp_path, rows)).score_prompt(PROMPTS[0], 3)
    assert score.correct.tolist() == [False, True, True] and torch.equal(score.p_yes, torch.full((3,), 0.7))
    del rows[1]["p_no"]
    assert ScoreFile(written(tmp_path, rows)).score_prompt(PROMPTS[0], 3).p_no is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:-1], "scores missing: prompt 1 candidate 2; one for each candidate is needed"),
        (lambda rows: rows[:1], "scores missing: prompt 0 candidate 1, prompt 0 candidate 2, prompt 1 .* and 2 more"),
        (lambda rows: [*rows, {**rows[0], "candidate": 3}], "scores of other pictures: prompt 0 candidate 3"),
        (lambda rows: [*rows, {**rows[0], "prompt_id": 9}], "scores of other pictures: prompt 9 candidate 0"),
        (lambda rows: [*rows, rows[1]], ":7: prompt 0 candidate 1 has a score on line 2 already"),
        (lambda rows: [{**rows[0], "prompt": "a cow"}, *rows[1:]], ":1: prompt 0 is 'a cow', in the run 'a cat'"),
        (lambda rows: [{**rows[0], "score": float("nan")}, *rows[1:]], ":1: score is nan; a finite number is right"),
        (lambda rows: [*rows, {"prompt_id": 0, "score": 1}], ":7: names no picture and no prompt_id with candidate"),
        (lambda rows: [*rows, {"prompt_id": 0, "candidate": 1, "score": "high"}], ":7: no score"),
        (lambda rows: [*rows, 5], ":7: no score"),
        (lambda rows: [], "no scores in it"),
    ],
)
def test_every_mismatch_with_a_run_is_one_line(change, message, tmp_path) -> None:
    file = written(tmp_path, change(ROWS))
    with pytest.raises(RunError, match=f"^{file}.*{message}") as error:
        ScoreFile(file).require(PROMPTS, 3)
    assert "\n" not in str(error.value)


def test_a_damaged_or_missing_file_is_one_line(tmp_path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"score": 1')
    for name, message in (("bad.jsonl", "bad.jsonl:1: not a JSON object"), ("absent.jsonl", "cannot be read")):
        with pytest.raises(RunError, match=message):
            read_score_file(tmp_path / name)


@pytest.fixture
def pictures(tmp_path) -> list[Path]:
    (tmp_path / "b").mkdir()
    paths = [tmp_path / "a.png", tmp_path / "b" / "c.png"]
    for number, path in enumerate(paths):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(path)
    return paths


def test_rows_are_matched_to_pictures_by_path_and_content(pictures, tmp_path, monkeypatch) -> None:
    rows = [
        {"picture": "b/c.png", "score": 2, "sha256": picture_hash(pictures[1])},
        {"picture": str(pictures[0]), "score": 1},
    ]
    file = written(tmp_path, rows)
    assert [row.score for row in match_pictures(file, read_score_file(file), pictures, tmp_path)] == [1, 2]
    Image.new("RGB", (4, 4), "white").save(pictures[1])
    with pytest.raises(RunError, match=":1: .*c.png is another picture than the one that was scored"):
        match_pictures(file, read_score_file(file), pictures, tmp_path)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a.png", 1)], "scores missing: .*c.png"),
        ([("a.png", 1), ("b/c.png", 1), ("z.png", 1)], ":3: scores of other pictures: z.png"),
        ([("a.png", 1), ("b/c.png", 1), ("a.png", 1)], ":3: a.png: has a score on line 1 already"),
    ],
)
def test_every_mismatch_with_pictures_is_one_line(rows, message, pictures, tmp_path) -> None:
    file = written(tmp_path, [{"picture": name, "score": score} for name, score in rows])
    with pytest.raises(RunError, match=message):
        match_pictures(file, read_score_file(file), pictures, tmp_path)


def test_a_run_s_pictures_are_compared_where_the_file_has_hashes(pictures, tmp_path) -> None:
    rows = [{"prompt_id": 0, "candidate": c, "score": 1, "sha256": picture_hash(pictures[c])} for c in (0, 1)]
    assert json.dumps(rows)
    verifier = ScoreFile(written(tmp_path, rows))
    verifier.require(PROMPTS[:1], 2, lambda prompt_id, candidate: pictures[candidate])
    with pytest.raises(RunError, match="is another picture than the one that was scored"):
        verifier.require(PROMPTS[:1], 2, lambda prompt_id, candidate: pictures[1 - candidate])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"candidate": {}}, "candidate is '{}'; a whole number is right"),
        ({"candidate": True}, "candidate is 'True'; a whole number is right"),
        ({"prompt_id": "0"}, "prompt_id is '0'; a whole number is right"),
        ({"picture": 7}, "picture is '7'; a text is right"),
        ({"p_yes": "high"}, "p_yes is 'high'; a number is right"),
        ({"correct": 1}, "correct is '1'; true or false is right"),
    ],
)
def test_fields_of_another_type_are_refused(tmp_path, change: dict, message: str) -> None:
    file = written(tmp_path, [ROWS[0], {**ROWS[1], **change}])
    with pytest.raises(RunError) as caught:
        read_score_file(file)
    assert message in str(caught.value) and f"{file}:2" in str(caught.value)


@pytest.mark.parametrize("line", ["[" * 100_000, "9" * 5_000])
def test_what_is_too_deep_or_too_long_is_one_line(tmp_path, line: str) -> None:
    (tmp_path / "scores.jsonl").write_text(line)
    with pytest.raises(RunError, match="scores.jsonl:1: not a JSON object"):
        read_score_file(tmp_path / "scores.jsonl")
