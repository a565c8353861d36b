"""What cannot be judged is named, with what would be right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vhs.errors import CheckpointError, PromptError
from vhs.geneval.metadata import check_metadata, read_metadata, read_names

DATA = Path(__file__).parents[2] / "data"
NAMES = read_names(DATA / "object_names.txt")
GOOD = {
    "tag": "position",
    "include": [{"class": "cat", "count": 1}, {"class": "dog", "count": 1, "position": ["left of", 0]}],
    "prompt": "a photo of a dog left of a cat",
}


def test_every_record_of_the_benchmark_is_good():
    records = json.loads((DATA / "evaluation_metadata.json").read_text())
    assert len(records) == 553 and len(NAMES) == 80
    for record in records:
        check_metadata(record, NAMES)


def changed(**clause):
    second = {**GOOD["include"][1], **clause}
    return {**GOOD, "include": [GOOD["include"][0], second]}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({**GOOD, "tag": "colour"}, r"file: tag 'colour' is not GenEval's; did you mean colors"),
        ({**GOOD, "include": []}, r"file: include must be a list of clauses"),
        ({**GOOD, "prompt": None}, r"file: no prompt"),
        (changed(**{"class": "mouse"}), r"include\[1\] has an unknown class 'mouse'; did you mean computer mouse"),
        (changed(count=0), r"include\[1\] has count 0; a whole number from 1"),
        (changed(color="rde"), r"unknown color 'rde'; did you mean red"),
        (changed(position=["over", 0]), r"unknown relation 'over'"),
        (changed(position=["above", 1]), r"position target 1; the index of an earlier include clause \(0 to 0\)"),
        (changed(position=["above", -1]), r"position target -1"),
        (changed(position="above"), r"\['left of', 0\] would be right"),
        ({**GOOD, "exclude": [{"class": "dog"}]}, r"exclude\[0\] has count None"),
    ],
)
def test_a_wrong_record_is_named(record, message):
    with pytest.raises(PromptError, match=message) as error:
        check_metadata(record, NAMES, "file")
    assert "\n" not in str(error.value)


def test_a_missing_or_broken_metadata_file_is_named(tmp_path):
    with pytest.raises(PromptError, match="metadata.jsonl: missing"):
        read_metadata(tmp_path / "metadata.jsonl")
    (tmp_path / "metadata.jsonl").write_text('{"tag": ')
    with pytest.raises(PromptError, match="not one JSON record"):
        read_metadata(tmp_path / "metadata.jsonl")


def test_names_are_distinct_and_there(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_names(tmp_path / "absent.txt")
    (tmp_path / "names.txt").write_text("cat\ndog\ncat\n")
    with pytest.raises(CheckpointError, match="must be distinct"):
        read_names(tmp_path / "names.txt")
