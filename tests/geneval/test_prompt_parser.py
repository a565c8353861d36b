"""The rules read every prompt of GenEval and of the tiny world as their own records say, and nothing else."""

import json
from pathlib import Path

import pytest

from vhs.geneval.metadata import check_metadata, read_names
from vhs.geneval.prompt_parser import PromptParser
from vhs.records import TAGS

ROOT = Path(__file__).parents[2]
NAMES = read_names(ROOT / "data" / "object_names.txt")
GENEVAL = json.loads((ROOT / "data" / "evaluation_metadata.json").read_text())


def test_all_of_geneval():
    parse = PromptParser(NAMES)
    assert len(GENEVAL) == 553
    for record in GENEVAL:
        assert parse(record["prompt"]) == record


@pytest.mark.parametrize("tag", TAGS)
def test_all_of_the_tiny_world(tag):
    from vhs.tinyworld.scenes import SHAPES, all_records

    parse = PromptParser(SHAPES)
    for record in all_records(tag):
        assert parse(record["prompt"]) == record


@pytest.mark.parametrize(
    ("prompt", "tag", "include"),
    [
        ("A photo of an orange", "single_object", [{"class": "orange", "count": 1}]),
        ("an orange orange.", "colors", [{"class": "orange", "count": 1, "color": "orange"}]),
        ("a picture of 3 knives", "counting", [{"class": "knife", "count": 3}]),
        ("two people", "counting", [{"class": "person", "count": 2}]),
        ("four scissors", "counting", [{"class": "scissors", "count": 4}]),
        (
            "a cat to the left of a dog",
            "position",
            [{"class": "dog", "count": 1}, {"class": "cat", "count": 1, "position": ["left of", 0]}],
        ),
    ],
)
def test_other_words_for_the_same(prompt, tag, include):
    record = PromptParser(NAMES)(prompt)
    assert record["tag"] == tag and record["include"] == include and record["prompt"] == prompt
    check_metadata(record, NAMES)


@pytest.mark.parametrize(
    "prompt",
    [
        "a photo of a unicorn",
        "a photo of bench",
        "a photo of two dog",
        "a photo of a red car and a dog",
        "a cat on a table",
        "a photo of a dog and a dog",
        "three red apples",
        "a photo of two dogs and a cat",
        "a dog and a cat and a bird",
        "",
        "a photo of",
    ],
)
def test_other_prompts_are_left_to_others(prompt):
    assert PromptParser(NAMES)(prompt) is None
