"""The tiny world's second judge: exact on rendered scenes, and on what an autoencoder makes of their edges."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from vhs.errors import PromptError
from vhs.records import TAGS
from vhs.tinyworld import drawing, geometry_judge, scenes
from vhs.tinyworld.geometry_judge import GeometryJudge, find_pieces, measure, nearest_color


def test_rendered_scenes_are_read_exactly() -> None:
    exact = {"named": 1.0, "accepted": 1.0, "rejected": 1.0}
    assert measure(15) == dict.fromkeys(TAGS, exact)


def test_soft_edges_and_noise_change_little() -> None:
    rng, right = np.random.default_rng(0), []
    for seed in range(100):
        scene = scenes.sample_scene(geometry_judge.FIRST_SCENE - 1 - seed, "test")
        soft = np.asarray(drawing.render(scene)[0].filter(ImageFilter.GaussianBlur(0.8)), dtype=float)
        noisy = Image.fromarray(np.clip(soft + rng.normal(0, 6, soft.shape), 0, 255).astype(np.uint8))
        seen = sorted((piece.detection.label, piece.color) for piece in find_pieces(noisy))
        right.append(seen == sorted((obj.shape, obj.color) for obj in scene.objects))
    assert np.mean(right) >= 0.97


def test_boxes_are_those_of_the_masks() -> None:
    scene = scenes.sample_scene(geometry_judge.FIRST_SCENE)
    picture, masks = drawing.render(scene)
    wanted = sorted(one.box for one in scenes.true_detections(scene, masks))
    found = sorted(piece.detection.box for piece in find_pieces(picture))
    np.testing.assert_allclose(found, wanted, atol=1)


def test_no_color_is_too_near_to_a_background_and_no_shape_too_small() -> None:
    jitters = np.array(list(itertools.product((-1, 0, 1), repeat=3)))
    drawn = np.array(list(scenes.COLORS.values()))[:, None] + scenes.COLOR_JITTER * jitters
    grounds = np.array(scenes.BACKGROUNDS)[:, None] + 6 * jitters
    apart = np.linalg.norm(drawn.reshape(-1, 1, 3) - grounds.reshape(1, -1, 3), axis=-1)
    assert apart.min() > 80 > geometry_judge.CONTRAST
    for name in scenes.COLORS:
        assert {nearest_color(rgb) for rgb in drawn[list(scenes.COLORS).index(name)]} == {name}
    for shape in scenes.SHAPES:
        share = drawing.coverage(scenes.SceneObject(shape, "red", 32, 32, 8.5, (0, 0, 0)))
        assert (share >= 0.5).sum() >= 95 > geometry_judge.SMALLEST


def test_shapes_that_have_grown_together_are_no_shape() -> None:
    picture = Image.new("RGB", (64, 64), (128, 134, 140))
    draw = ImageDraw.Draw(picture)
    for x in (12, 30):
        draw.ellipse([x, 22, x + 20, 42], fill=(222, 38, 38))
        draw.ellipse([x + 5, 27, x + 15, 37], fill=(128, 134, 140))
    (piece,) = find_pieces(picture)
    assert piece.color == "red" and piece.detection.score < geometry_judge.OVERLAP
    record = scenes.caption_record("counting", ["ring"], count=2)
    verdict = GeometryJudge().judge_batch([picture], [record])[0]
    assert not verdict.correct and verdict.reason.startswith("expected ring>=2, found 0")


def test_a_picture_of_another_size_and_an_empty_one() -> None:
    scene = scenes.make_scene(scenes.caption_record("colors", ["star"], ["blue"]), 5)
    large = drawing.render(scene)[0].resize((256, 256), Image.Resampling.BICUBIC)
    blank = Image.new("RGB", (64, 64), (128, 134, 140))
    verdicts = GeometryJudge().judge_batch([large, blank], [scene.metadata] * 2)
    assert [one.correct for one in verdicts] == [True, False] and not find_pieces(blank)


def test_other_classes_are_refused() -> None:
    record = {"tag": "single_object", "include": [{"class": "dog", "count": 1}], "prompt": "a photo of a dog"}
    with pytest.raises(PromptError, match="unknown class 'dog'"):
        GeometryJudge().judge_batch([Image.new("RGB", (64, 64))], [record])
