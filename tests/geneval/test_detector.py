"""Batches change nothing, and only the right checkpoint loads."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from vhs.errors import CheckpointError, ImageError
from vhs.geneval.detector import Mask2Former, batches, load_model, quick_batch


def by_pair(found):
    return {(int(q), int(c)): i for i, (q, c) in enumerate(zip(found.query, found.label, strict=True))}


def test_a_batch_of_mixed_sizes_gives_what_single_pictures_give(detector, picture):
    images = [picture(0), picture(1, 100, 50), picture(2), picture(3, 40, 40)]
    together = detector.instances(images)
    for image, batched in zip(images, together, strict=True):
        alone = detector.instances([image])[0]
        rows, other = by_pair(alone), by_pair(batched)
        assert rows.keys() == other.keys() and len(rows) == 64
        order, match = list(rows.values()), [other[pair] for pair in rows]
        assert torch.allclose(alone.score[order], batched.score[match], atol=1e-5)
        assert alone.mask.shape[1:] == (image.height, image.width)
        assert (alone.mask[order] != batched.mask[match]).float().mean() < 1e-3


def test_detections_carry_names_by_index_scores_boxes_and_masks(detector, picture):
    found = detector.detect([picture(0)], min_score=0.3)[0]
    raw = detector.instances([picture(0)], min_score=0.3)[0]
    assert found and [one.label for one in found] == [detector.names[i] for i in raw.label]
    for one in found:
        assert one.mask.dtype == bool and one.mask.shape == (64, 64)
        ys, xs = np.nonzero(one.mask)
        assert one.box == ((0, 0, 0, 0) if not len(xs) else (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1))


def test_names_must_be_as_many_as_the_classes(make_mask2former):
    with pytest.raises(CheckpointError, match="8 classes, but object_names lists 2"):
        Mask2Former(make_mask2former(), ("a", "b"))


def test_a_saved_folder_loads_to_the_same_model(detector, detector_folder, picture):
    loaded = Mask2Former(load_model(detector_folder), detector.names, (64, 64))
    ours, theirs = detector.instances([picture(0)])[0], loaded.instances([picture(0)])[0]
    assert torch.equal(ours.score, theirs.score) and torch.equal(ours.mask, theirs.mask)


def test_a_folder_with_a_tensor_missing_is_refused(detector_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "broken"
    shutil.copytree(detector_folder, folder)
    state = load_file(folder / "model.safetensors")
    state.pop("class_predictor.weight")
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="class_predictor.weight"):
        load_model(folder)


def test_a_truncated_file_and_another_architecture_are_refused_in_one_line(detector_folder, tmp_path):
    folder = tmp_path / "broken"
    shutil.copytree(detector_folder, folder)
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match="truncated or corrupt") as error:
        load_model(folder)
    assert "\n" not in str(error.value)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "detr"}))
    with pytest.raises(CheckpointError, match="model_type is 'detr'; mask2former would be right"):
        load_model(folder)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_model(tmp_path / "absent.pth")


def test_a_picture_too_thin_is_named(detector, picture):
    with pytest.raises(ImageError, match="too thin"):
        detector.detect([picture(0, 8000, 1)])


def test_batches_keep_sizes_together():
    assert batches(["a", "b", "a", "a"], 2) == [[0, 2], [3], [1]]
    assert quick_batch((64, 64), torch.device("cpu")) == 64
    assert quick_batch((1333, 800), torch.device("cpu")) == 1
