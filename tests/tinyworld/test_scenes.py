"""Scenes are what their captions say, held-out combinations stay out of training, and everything follows the seed."""

import numpy as np
import pytest

from vhs.geneval.metadata import check_metadata
from vhs.records import TAGS
from vhs.tinyworld import scenes
from vhs.tinyworld.drawing import render
from vhs.tinyworld.scenes import COLORS, HELD_OUT_PAIRS, SHAPES, contrast, held_out, sample_scene, true_verdict


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_scene_satisfies_its_own_metadata(split):
    for seed in range(400):
        scene = sample_scene(seed, split)
        _, masks = render(scene)
        verdict = true_verdict(scene.metadata, scene, masks)
        assert verdict.correct, (seed, scene.caption, verdict.reason)


def test_pictures_and_masks_follow_the_seed():
    first, again, other = render(sample_scene(5)), render(sample_scene(5)), render(sample_scene(6))
    assert first[0].tobytes() == again[0].tobytes() and np.array_equal(first[1], again[1])
    assert first[0].tobytes() != other[0].tobytes()


def test_objects_neither_touch_nor_leave_the_picture():
    for seed in range(300):
        scene = sample_scene(seed)
        _, masks = render(scene)
        assert 1 <= len(masks) <= 4
        assert masks.sum(0).max() == 1
        border = np.concatenate([masks[:, 0], masks[:, -1], masks[:, :, 0], masks[:, :, -1]], axis=1)
        assert not border.any(), scene.caption


def test_every_color_stands_out_from_every_background():
    distances = [
        np.linalg.norm(np.subtract(color, ground)) for color in COLORS.values() for ground in scenes.BACKGROUNDS
    ]
    assert min(distances) > 70


def test_a_mask_covers_its_object_in_its_own_color():
    for seed in range(60):
        scene = sample_scene(seed)
        picture, masks = render(scene)
        for obj, mask in zip(scene.objects, masks, strict=True):
            seen = np.median(np.asarray(picture)[mask], axis=0)
            assert np.abs(seen - obj.rgb).max() <= 1, scene.caption


@pytest.mark.parametrize("tag", TAGS)
def test_records_are_genevals(tag):
    for record in scenes.all_records(tag)[:300]:
        check_metadata(record, SHAPES)
        assert record["tag"] == tag and record["prompt"].startswith("a photo of ")


def test_no_training_scene_shows_or_names_a_held_out_combination():
    for seed in range(1500):
        scene = sample_scene(seed, "train")
        assert not held_out(scene.metadata), scene.caption
        assert not any((obj.shape, obj.color) in HELD_OUT_PAIRS for obj in scene.objects), scene.caption


def test_held_out_relations_are_held_out_in_both_wordings():
    held = {r["prompt"] for r in scenes.records("position", "test")}
    for record in scenes.records("position", "test"):
        second, first = record["include"]
        opposite = scenes.OPPOSITE[first["position"][0]]
        assert f"a photo of a {second['class']} {opposite} a {first['class']}" in held


def test_splits_share_no_caption_where_combinations_are_held_out():
    for tag in ("colors", "position", "color_attr"):
        train, test = ({r["prompt"] for r in scenes.records(tag, split)} for split in ("train", "test"))
        assert train and test and not train & test


def test_prompts_take_the_tags_in_turn_and_repeat_only_when_a_tag_is_exhausted():
    prompts = scenes.sample_prompts(90, seed=1)
    assert [p["tag"] for p in prompts[:6]] == list(TAGS)
    positions = [p["prompt"] for p in prompts if p["tag"] == "position"]
    assert len(set(positions)) == len(positions)
    assert prompts == scenes.sample_prompts(90, seed=1) != scenes.sample_prompts(90, seed=2)


def test_a_contrast_changes_one_thing_and_is_wrong_of_the_scene():
    for seed in range(300):
        scene = sample_scene(seed)
        other = contrast(scene.metadata, np.random.default_rng(seed))
        assert other["tag"] == scene.metadata["tag"] and other["prompt"] != scene.caption
        assert not true_verdict(other, scene).correct, (scene.caption, other["prompt"])


def test_the_third_split_is_fixed_and_new_where_anything_new_is_left() -> None:
    prompts = scenes.untouched_prompts()
    texts = [record["prompt"] for record in prompts]
    assert prompts == scenes.untouched_prompts() and len(set(texts)) == len(texts) == 104
    seen = {one["prompt"] for count, seed in scenes.DEVELOPMENT for one in scenes.sample_prompts(count, seed)}
    for record in prompts:
        assert record["tag"] != "color_attr" or record["prompt"] not in seen
        assert record["tag"] not in ("colors", "position", "color_attr") or scenes.held_out(record)
