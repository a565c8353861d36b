"""Files of scores that another program wrote: what is no row is one line that names file and line."""

import json
from pathlib import Path

import pytest

from vhs.errors import RunError
from vhs.verifiers.score_file import read_score_file

ROW = {"prompt_id": 0, "candidate": 3, "score": 0.71}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"candidate": {}}, "candidate is '{}'; a whole number is right"),
        ({"candidate": True}, "candidate is 'True'; a whole number is right"),
        ({"prompt_id": "0"}, "prompt_id is '0'; a whole number is right"),
        ({"picture": 7}, "picture is '7'; a text is right"),
        ({"p_yes": "high"}, "p_yes is 'high'; a number is right"),
        ({"correct": 1}, "correct is '1'; true or false is right"),
        ({"candidate": None}, "names no picture and no prompt_id with candidate"),
        ({"score": float("nan")}, "score is nan; a finite number is right"),
    ],
)
def test_fields_of_another_type_are_refused(tmp_path: Path, change: dict, message: str) -> None:
    file = tmp_path / "scores.jsonl"
    file.write_text(f"{json.dumps(ROW)}\n{json.dumps({**ROW, 'candidate': 4, **change})}\n")
    with pytest.raises(RunError) as caught:
        read_score_file(file)
    assert message in str(caught.value) and f"{file}:2" in str(caught.value)


@pytest.mark.parametrize("line", ["[" * 100_000, "9" * 5_000, "{"])
def test_what_is_no_json_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "scores.jsonl").write_text(line)
    with pytest.raises(RunError, match=r"scores.jsonl:1: not a JSON object|scores.jsonl:1: no score"):
        read_score_file(tmp_path / "scores.jsonl")
