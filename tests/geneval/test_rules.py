"""The rules agree with the official evaluator, case by case, and their edges are where it puts them."""

from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path

import pytest

from vhs.geneval import rules
from vhs.geneval.rules import Thresholds, relations
from vhs.records import Detection

GOLDEN = Path(__file__).parents[1] / "goldens" / "geneval_rules_500.json.gz"


@pytest.fixture(scope="module")
def cases():
    with gzip.open(GOLDEN) as file:
        return json.load(file)


def verdict_of(case, thresholds=Thresholds()):
    found = [Detection(d["label"], d["score"], tuple(d["box"])) for d in case["detections"]]
    colors = {id(one): d["color"] for one, d in zip(found, case["detections"], strict=True)}
    return rules.judge(case["metadata"], found, lambda one, label: colors[id(one)], thresholds=thresholds)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0, 0, 0, 0), (0, 0, 0, 0), 1.0),  # one pixel
        ((0, 0, 1, 1), (1, 1, 2, 2), 1 / 7),  # 2 x 2 pixels each, one in common
        ((0, 0, 3, 1), (2, 0, 3, 2), 4 / 10),  # 4 x 2 and 2 x 3 pixels, 2 x 2 in common
        ((0, 0, 1, 1), (2, 0, 3, 1), 0.0),
        ((0, 0, 1, 1), (0, 5, 1, 6), 0.0),
        ((5, 5, 3, 3), (5, 5, 3, 3), 0.0),  # turned round: no pixel at all
    ],
)
def test_a_box_counts_its_last_pixel(a, b, expected) -> None:
    assert rules.box_iou(a, b) == rules.box_iou(b, a) == pytest.approx(expected)


def disagreements(cases, thresholds=Thresholds()):
    verdicts = [(case, verdict_of(case, thresholds)) for case in cases]
    return [case for case, v in verdicts if (v.correct, v.reason) != (case["correct"], case["reason"])]


def test_agrees_with_the_official_evaluator_on_every_golden_case(cases):
    assert len(cases) == 500
    assert disagreements(cases) == []


@pytest.mark.parametrize("changed", [{"confidence": 0.35}, {"counting": 0.8}, {"position": 0.2}, {"max_objects": 2}])
def test_every_threshold_matters_to_the_golden_cases(cases, changed):
    assert disagreements(cases, dataclasses.replace(Thresholds(), **changed))


def found(label, score, box=(0, 0, 10, 10)):
    return Detection(label, score, box)


def judge(metadata, detections, color="red", **thresholds):
    return rules.judge(metadata, detections, lambda one, label: color, thresholds=Thresholds(**thresholds))


def test_confidence_must_exceed_the_threshold_and_counting_has_its_own():
    one = {"tag": "single_object", "include": [{"class": "cat", "count": 1}]}
    assert not judge(one, [found("cat", 0.3)]).correct
    assert judge(one, [found("cat", 0.31)]).correct
    counting = {**one, "tag": "counting"}
    assert judge(counting, [found("cat", 0.9)]).reason == "expected cat>=1, found 0"
    assert judge(counting, [found("cat", 0.91)]).correct


def test_excluded_objects_are_counted_up_to_sixteen_a_class():
    metadata = {
        "tag": "counting",
        "include": [{"class": "cat", "count": 2}],
        "exclude": [{"class": "cat", "count": 3}],
    }
    assert judge(metadata, [found("cat", 0.95)] * 2).correct
    assert judge(metadata, [found("cat", 0.95)] * 20).reason == "expected cat<3, found 16"


def test_only_the_most_confident_object_is_asked_for_its_colour_and_ties_go_to_the_later():
    asked = []
    metadata = {"tag": "colors", "include": [{"class": "cat", "count": 1, "color": "red"}]}
    cats = [found("cat", 0.5, (0, 0, 1, 1)), found("cat", 0.8, (1, 0, 2, 1)), found("cat", 0.8, (2, 0, 3, 1))]
    verdict = rules.judge(metadata, cats, lambda one, label: asked.append((one.box[0], label)) or "blue")
    assert asked == [(2, "cat")]
    assert verdict.reason == "expected red cat>=1, found 0 red; and 1 blue"
    assert verdict.objects == (cats[2], cats[1], cats[0])
    assert verdict.colors == {0: "blue"}


def test_colours_that_were_found_are_listed_in_genevals_order():
    metadata = {"tag": "colors", "include": [{"class": "cat", "count": 3, "color": "red"}]}
    cats = [found("cat", 0.9), found("cat", 0.8), found("cat", 0.7)]
    named = iter(["white", "blue", "orange"])
    verdict = rules.judge(metadata, cats, lambda one, label: next(named))
    assert verdict.reason == "expected red cat>=3, found 0 red; and 1 orange, 1 blue, 1 white"


def test_a_relation_to_an_object_that_is_not_there_is_named():
    metadata = {
        "tag": "position",
        "include": [{"class": "cat", "count": 1}, {"class": "dog", "count": 1, "position": ["left of", 0]}],
    }
    assert judge(metadata, [found("dog", 0.9)]).reason == "expected cat>=1, found 0\nno target for dog to be left of"


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((30, 0, 40, 10), ("right of",)),
        ((-30, 0, -20, 10), ("left of",)),
        ((0, 30, 10, 40), ("below",)),
        ((-30, -30, -20, -20), ("above", "left of")),
        ((1, 0, 11, 10), ()),  # centres closer than a tenth of both widths
        ((0, 0, 10, 10), ()),
        ((5, 0, 15, 10), ("right of",)),  # 5, less a margin of 2: more than half of it
        ((4, 0, 14, 10), ()),  # 4, less a margin of 2: half of it, which is not enough
        ((-4, 0, 6, 10), ()),
        ((0, 4, 10, 14), ()),
        ((0, -4, 10, 6), ()),
        ((-20, -9, -10, 1), ("left of",)),
        ((-20, -16, -10, -6), ("above", "left of")),  # offset (-20, -16) less (2, 2), of 25.6: (-0.70, -0.55)
        ((-20, -14, -10, -4), ("left of",)),  # (-18, -12) of 24.4: (-0.74, -0.49)
        ((-16, -20, -6, -10), ("above", "left of")),  # (-14, -18) of 25.6: (-0.55, -0.70)
        ((20, 3, 30, 13), ("right of",)),  # 3 down, less the margin of 2: not half of the distance
    ],
)
def test_relations_hold_beyond_a_margin_and_half_of_the_distance(box, expected):
    assert relations(box, (0, 0, 10, 10)) == expected


def test_a_margin_is_of_the_sides_along_its_own_axis():
    assert relations((15, 0, 115, 10), (0, 0, 100, 10)) == (), "15 to the right; a tenth of both widths is 20"
    assert relations((0, 15, 100, 25), (0, 0, 100, 10)) == ("below",)
    assert relations((1, 0, 3, 2), (0, 0, 2, 2)) == ("right of",), "however small the objects are"


def test_objects_of_the_right_colour_are_counted_in_the_reason():
    metadata = {"tag": "colors", "include": [{"class": "cat", "count": 2, "color": "red"}]}
    named = iter(["red", "blue"])
    verdict = rules.judge(metadata, [found("cat", 0.9), found("cat", 0.8)], lambda one, label: next(named))
    assert verdict.reason == "expected red cat>=2, found 1 red; and 1 red, 1 blue"


def test_an_overlap_of_just_the_limit_is_dropped():
    tall = [found("cat", 0.9, (0, 0, 0, 2)), found("cat", 0.8, (0, 1, 0, 3))]  # 2 of 4 pixels in common
    assert rules.drop_overlaps(tall, 0.5) == tall[:1] and rules.drop_overlaps(tall, 0.51) == tall


def test_overlaps_are_dropped_only_where_asked():
    cats = [found("cat", 0.9), found("cat", 0.8, (1, 0, 11, 10)), found("cat", 0.7, (50, 50, 60, 60))]
    metadata = {"tag": "single_object", "include": [{"class": "cat", "count": 1}]}
    assert len(judge(metadata, cats).objects) == 3
    assert judge(metadata, cats, max_overlap=0.5).objects == (cats[0], cats[2])
