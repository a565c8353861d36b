"""The judge in memory: one forward pass a batch, and the same verdicts as one by one."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from vhs.errors import CheckpointError, PromptError
from vhs.geneval import rules
from vhs.geneval.colors import ColorQuery
from vhs.geneval.evaluate import GenEval
from vhs.geneval.spec import resolve_judge
from vhs.pictures import to_rgb
from vhs.records import Detection

TAG = {"tag": "colors", "prompt": "p"}


def wants(label, color="red"):
    return {**TAG, "include": [{"class": label, "count": 1, "color": color}]}


@pytest.fixture(scope="module")
def judge(detector, colors):
    return GenEval(detector, colors)


def best(found):
    return max(found, key=lambda one: one.score)


@pytest.fixture(scope="module")
def seen(judge, picture):
    """(picture, metadata) that ask for the colour of something that is there."""
    images = [picture(seed) for seed in range(6)]
    found = judge.detector.detect(images, 0.3)
    return [
        (image, wants(best(one).label))
        for image, one in zip(images, found, strict=True)
        if one and best(one).score > 0.3
    ]


def test_a_batch_is_judged_like_single_pictures(judge, seen):
    assert len(seen) > 3
    images, metadatas = zip(*seen, strict=True)
    together = judge.judge_batch(images, metadatas)
    for image, metadata, verdict in zip(images, metadatas, together, strict=True):
        alone = judge.judge(image, metadata)
        assert (alone.correct, alone.reason, alone.colors) == (verdict.correct, verdict.reason, verdict.colors)
        assert verdict.colors, "the clause asked for a colour"


def test_a_verdict_is_detector_colours_and_rules_put_together(judge, seen):
    image, metadata = seen[0]
    verdict = judge.judge(image, metadata)
    detections = judge.detector.detect([to_rgb(image)])[0]

    def color_of(one, label):
        return judge.colors.classify([ColorQuery(to_rgb(image), one, label)])[0]

    expected = rules.judge(metadata, detections, color_of)
    assert (verdict.correct, verdict.reason, verdict.colors) == (expected.correct, expected.reason, expected.colors)
    assert [(o.label, o.box) for o in verdict.objects] == [(o.label, o.box) for o in expected.objects]
    assert all(o.score > 0.3 and o.mask is not None for o in verdict.objects)


def test_the_detector_leaves_out_no_object_that_can_matter(detector, colors, seen):
    """The lower of the two thresholds decides: with 1 for counting no object counts, and all others do."""
    judge = GenEval(detector, colors, thresholds=rules.Thresholds(counting=1.0))
    images, metadatas = zip(*seen, strict=True)
    verdicts = judge.judge_batch(images, metadatas)
    everything = judge.judge_detections([to_rgb(image) for image in images], metadatas, detector.detect(images))
    assert [len(one.objects) for one in verdicts] == [len(one.objects) for one in everything]
    assert all(one.objects for one in verdicts)


class Blank:
    """Names a plain picture's colour, whatever is on it."""

    def classify(self, queries):
        return [{(255, 0, 0): "red", (0, 0, 255): "blue"}[query.image.getpixel((0, 0))] for query in queries]


def test_an_object_has_the_colour_that_was_named_for_it(detector):
    pictures = [Image.new("RGB", (20, 20), color) for color in ("red", "blue", "red")]
    found = [[Detection("circle", 0.9, (0, 0, 9, 9))] for _ in pictures]
    found[1].append(Detection("star", 0.8, (0, 0, 9, 9)))
    metadatas = [wants("circle"), wants("circle"), wants("star")]
    metadatas[1]["include"] += wants("star", "blue")["include"]
    verdicts = GenEval(detector, Blank()).judge_detections(pictures, metadatas, found)
    assert [one.colors for one in verdicts] == [{0: "red"}, {0: "blue", 1: "blue"}, {}]
    assert [one.correct for one in verdicts] == [True, False, False]


def test_a_batch_is_one_pass_of_the_detector_and_one_of_clip(detector, colors, seen, monkeypatch):
    calls = []
    forward, encode = detector.model.forward, colors.model.encode_image
    monkeypatch.setattr(detector.model, "forward", lambda **k: calls.append(len(k["pixel_values"])) or forward(**k))
    monkeypatch.setattr(colors.model, "encode_image", lambda x: calls.append(-len(x)) or encode(x))
    images, metadatas = zip(*seen, strict=True)
    GenEval(detector, colors).judge_batch(images, metadatas)
    assert calls == [len(seen), -len(seen)]


@pytest.mark.parametrize("size", [(1, 1), (8000, 200), (64, 7)])
def test_pictures_of_any_shape_are_judged(judge, size):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))
    verdict = judge.judge(image, wants("circle"))
    assert all(one.mask.shape == (size[1], size[0]) for one in verdict.objects)


def test_an_unknown_class_is_refused(judge, picture):
    with pytest.raises(PromptError, match="unknown class 'cat'"):
        judge.judge(picture(0), wants("cat"))


def test_a_resolved_judge_loads_the_same_and_checks_itself(judge_config, judge, seen):
    spec = resolve_judge(judge_config, "cpu").fetched()
    loaded = spec.load(self_check=False)
    image, metadata = seen[0]
    assert loaded.judge(image, metadata).reason == judge.judge(image, metadata).reason
    with pytest.raises(CheckpointError, match="self-check: data/selfcheck/tiny_0.png"):
        spec.load()
