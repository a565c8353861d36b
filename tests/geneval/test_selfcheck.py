"""A wrong detector stops in one line; the right one passes."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from vhs.errors import CheckpointError, ConfigError
from vhs.geneval import rules, selfcheck
from vhs.geneval.evaluate import GenEval
from vhs.geneval.metadata import read_names
from vhs.geneval.rules import COLORS, Thresholds
from vhs.paths import find
from vhs.records import Detection
from vhs.tinyworld.scenes import BACKGROUNDS, SHAPES

COCO = read_names(find("data/object_names.txt"))


class Perfect:
    """Finds the two pictures' shapes by what differs from the background."""

    names = SHAPES
    batch_size = 64

    def detect(self, images, min_score=None):
        return [self.shapes(image) for image in images]

    def shapes(self, image):
        import numpy as np

        pixels = np.asarray(image).astype(int)
        ground = min(BACKGROUNDS, key=lambda b: abs(pixels[0, 0] - b).sum())
        there = abs(pixels - ground).sum(2) > 60
        if (pixels[there][:, 0] > 150).any():  # the red circle left, the blue star right
            cuts = [("circle", there & (np.arange(64) < 32)), ("star", there & (np.arange(64) >= 32))]
        else:
            rows = np.arange(64)[:, None] < 32
            columns = np.arange(64) < 32
            cuts = [("square", there & part) for part in (rows & columns, rows & ~columns, ~rows & columns)]
        return [Detection(label, 0.99, box_of(mask), mask) for label, mask in cuts]


def box_of(mask):
    import numpy as np

    ys, xs = np.nonzero(mask)
    return float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1)


class ByEye:
    """Names red, green or blue by the brightest channel."""

    def classify(self, queries):
        named = []
        for query in queries:
            import numpy as np

            mean = np.asarray(query.image)[query.detection.mask].mean(0)
            named.append({0: "red", 1: "green", 2: "blue"}[int(mean.argmax())])
        return named


def test_the_shipped_answers_are_true_for_a_judge_that_sees_right():
    assert selfcheck.check_answers(GenEval(Perfect(), ByEye())) == 7


@pytest.mark.parametrize("slip", ["label", "count", "score"])
def test_a_detector_that_is_wrong_once_is_caught(slip):
    class Wrong(Perfect):
        def shapes(self, image):
            found = super().shapes(image)
            if slip == "label":
                return [dataclasses.replace(one, label={"star": "moon"}.get(one.label, one.label)) for one in found]
            if slip == "count":
                return found[:-1] if len(found) == 3 else found
            return [dataclasses.replace(one, score=0.5) for one in found]

    with pytest.raises(CheckpointError, match="self-check"):
        selfcheck.check_answers(GenEval(Wrong(), ByEye()))


def test_a_colour_classifier_that_is_wrong_is_caught():
    class Wrong(ByEye):
        def classify(self, queries):
            return [COLORS[0]] * len(queries)

    with pytest.raises(CheckpointError, match="colour classifier"):
        selfcheck.check_answers(GenEval(Perfect(), Wrong()))


def test_coco_names_need_genevals_file_and_order(tmp_path):
    other = tmp_path / "other.pth"
    torch.save({"state_dict": {}}, other)
    with pytest.raises(CheckpointError, match="not GenEval's detector .SHA-256 begins with"):
        selfcheck.check_files(COCO, other)
    with pytest.raises(CheckpointError, match="the folder was not made from GenEval's file"):
        selfcheck.check_files(COCO, tmp_path)
    selfcheck.check_files(COCO, tmp_path, converted_from="c9d0c4f2" + "0" * 56)
    selfcheck.check_files(SHAPES, other)


@pytest.mark.parametrize("change", ["swap", "coco"])
def test_coco_names_in_another_order_or_spelling_are_refused(tmp_path, change):
    names = list(COCO)
    if change == "swap":
        names[0], names[1] = names[1], names[0]
    else:
        names[names.index("computer mouse")] = "mouse"
    with pytest.raises(ConfigError, match="differs from GenEval's list; labels are mapped by index"):
        selfcheck.check_files(names, tmp_path)


def test_other_thresholds_are_refused():
    selfcheck.check_thresholds(Thresholds())
    with pytest.raises(ConfigError, match="thresholds"):
        selfcheck.check_thresholds(Thresholds(counting=0.3))


@pytest.fixture(scope="module")
def shipped():
    """The judge of configs/tiny.yaml, from the weights in ckpts/tiny."""
    from pathlib import Path

    from vhs.geneval.spec import judge_config, resolve_judge

    config = judge_config(Path("absent"), "configs/tiny.yaml", ["device=cpu"])
    return resolve_judge(config, "cpu").fetched().load(self_check=False)


def test_the_shipped_judge_knows_the_answers(shipped):
    assert selfcheck.check_answers(shipped) == 7


def test_the_shipped_detector_with_its_labels_shuffled_is_caught(shipped):
    names = SHAPES[1:] + SHAPES[:1]
    shipped_names, shipped.detector.names = shipped.detector.names, names
    with pytest.raises(CheckpointError, match="self-check"):
        selfcheck.check_answers(shipped)
    shipped.detector.names = shipped_names


def test_the_shipped_judge_accepts_true_captions_and_rejects_false_ones(shipped):
    """A small sample of what `python -m vhs.tinyworld.check` measures; a broken or swapped weight file fails it."""
    from vhs.tinyworld.drawing import render
    from vhs.tinyworld.scenes import make_scene, sample_prompts, true_detections

    records = sample_prompts(72, 5)
    scenes = [make_scene(record, 1000 + i, "test") for i, record in enumerate(records)]
    drawn = [render(scene) for scene in scenes]
    pictures = [picture for picture, _ in drawn]
    assert sum(v.correct for v in shipped.judge_batch(pictures, records)) >= 68
    others = [records[(i + 6) % 72] for i in range(72)]  # the same tag's next caption
    truth = []
    for scene, (_, masks), other in zip(scenes, drawn, others, strict=True):
        found = true_detections(scene, masks)
        colors = {id(one): obj.color for one, obj in zip(found, scene.objects, strict=True)}
        truth.append(rules.judge(other, found, lambda one, label, colors=colors: colors[id(one)]).correct)
    wrong = [i for i, correct in enumerate(truth) if not correct]
    verdicts = shipped.judge_batch([pictures[i] for i in wrong], [others[i] for i in wrong])
    assert len(wrong) > 50 and sum(not v.correct for v in verdicts) >= 0.94 * len(wrong)
