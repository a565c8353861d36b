"""Every tensor of mmdet's file has one place, and nothing else does. Parity itself: test_mmdet_parity.py."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from pathlib import Path

import pytest
import torch

from vhs.errors import CheckpointError
from vhs.geneval import mmdet_checkpoint as mm

NAMES = Path(__file__).parents[1] / "goldens" / "mmdet_mask2former_tensors.json.gz"


@pytest.fixture(scope="module")
def shapes():
    """Names and shapes of mmdet 3.3's model, as it prints them."""
    return json.loads(gzip.decompress(NAMES.read_bytes()))


@pytest.fixture(scope="module")
def state(shapes):
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def own():
    """transformers' tensors: name -> shape."""
    from transformers import Mask2FormerForUniversalSegmentation

    with torch.device("meta"):
        return {k: v.shape for k, v in Mask2FormerForUniversalSegmentation(mm.coco_config()).state_dict().items()}


def test_649_tensors_fill_the_model_and_only_three_are_missing_on_purpose(state, own):
    converted = mm.convert(state)
    assert len(state) == 649
    assert own.keys() - converted.keys() == set(mm.UNUSED)
    assert not converted.keys() - own.keys()
    assert {k: v.shape for k, v in converted.items()} == {k: own[k] for k in converted}


def test_every_rule_is_used_and_no_tensor_has_two(state):
    used = [[rule.pattern for rule in mm.RULES if re.fullmatch(rule.pattern, name)] for name in state]
    assert all(len(patterns) == 1 for patterns in used)
    assert {p for patterns in used for p in patterns} == {rule.pattern for rule in mm.RULES}


def test_names_of_mmdet_2_lead_to_the_same_places(state, old_name):
    old = {old_name(name): name for name in state}
    assert sum(a != b for a, b in old.items()) > 100
    assert {a: mm.new_name(a) for a in old} == old


def test_an_unknown_tensor_is_refused_by_name(state):
    with pytest.raises(CheckpointError, match="tensor bbox_head.fc_cls.weight: not part of"):
        mm.convert({**state, "bbox_head.fc_cls.weight": torch.empty(1)})


def test_missing_left_over_and_misshapen_tensors_are_refused(make_mask2former):
    model = make_mask2former()
    state = {k: v for k, v in model.state_dict().items() if k not in mm.UNUSED}
    assert mm.load_state(model, state) is model
    with pytest.raises(CheckpointError, match="class_predictor.bias is missing"):
        mm.load_state(model, {k: v for k, v in state.items() if k != "class_predictor.bias"})
    with pytest.raises(CheckpointError, match="extra.weight is left over"):
        mm.load_state(model, {**state, "extra.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"class_predictor.bias has shape \(3,\); \(9,\) would be right"):
        mm.load_state(model, {**state, "class_predictor.bias": torch.zeros(3)})


def test_patch_merging_goes_from_channel_major_to_pixel_major():
    """mmdet counts c * 4 + row * 2 + col, transformers (col * 2 + row) * C + c."""
    channels = 3
    source = torch.arange(4 * channels)
    (moved,) = mm.reorder_merged(source)
    for c in range(channels):
        for row in range(2):
            for col in range(2):
                assert moved[(col * 2 + row) * channels + c] == source[c * 4 + row * 2 + col]
    matrix = torch.stack([source, source + 100])
    assert torch.equal(mm.reorder_merged(matrix)[0], torch.stack([moved, moved + 100]))


def test_packed_rows_are_query_key_value():
    name = "backbone.stages.0.blocks.0.attn.w_msa.qkv.bias"
    parts = mm.convert({name: torch.arange(6.0)})
    assert {k.split(".")[-2]: v.tolist() for k, v in parts.items()} == {
        "q_proj": [0, 1],
        "k_proj": [2, 3],
        "v_proj": [4, 5],
    }


def saved(path, content):
    torch.save(content, path)
    return path


def test_bad_files_are_named_in_one_line(tmp_path):
    cases = {
        "absent.pth": "cannot be read",
        "text.pth": "not a whole PyTorch checkpoint",
        "other.pth": "has no `state_dict`",
        "resnet.pth": "tensor backbone.conv1.weight: not part of mmdet's Mask2Former",
    }
    (tmp_path / "text.pth").write_text("hello")
    saved(tmp_path / "other.pth", {"model": {}})
    saved(tmp_path / "resnet.pth", {"state_dict": {"backbone.conv1.weight": torch.zeros(1)}})
    for name, message in cases.items():
        with pytest.raises(CheckpointError, match=re.escape(message)) as error:
            mm.load_mmdet(tmp_path / name)
        assert str(tmp_path / name) in str(error.value) and "\n" not in str(error.value)


def test_a_file_cannot_run_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path(tmp_path / "ran").touch, ())

    path = saved(tmp_path / "evil.pth", {"state_dict": Evil()})
    with pytest.raises(CheckpointError):
        mm.load_mmdet(path)
    assert not (tmp_path / "ran").exists()


def test_a_name_that_ends_in_a_digest_must_be_true(tmp_path):
    path = saved(tmp_path / "m-c9d0c4f2.pth", {"state_dict": {}})
    with pytest.raises(CheckpointError, match="its SHA-256 begins with .*, not c9d0c4f2"):
        mm.load_mmdet(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    honest = path.rename(tmp_path / f"m-{digest[:8]}.pth")
    assert mm.check_digest(honest) == digest
