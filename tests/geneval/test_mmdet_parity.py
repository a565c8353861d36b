"""The reference itself: mmdet 3.3 and ours on the same random weights, each mapping rule broken once as a control."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip(
    "mmdet", reason="mmdet is not in this environment; `make test-mmdet` runs these tests in .venv-mmdet"
)

from vhs.errors import CheckpointError
from vhs.geneval import mmdet_checkpoint as mm
from vhs.geneval.detector import Mask2Former
from vhs.geneval.instances import top_pairs
from vhs.geneval.metadata import read_names
from vhs.geneval.mmdet_backend import MMDetDetector, build_model
from vhs.geneval.preprocess import prepare

NAMES = read_names(Path(__file__).parents[2] / "data" / "object_names.txt")
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """mmdet's model of GenEval, every parameter random, as a .pth in OpenMMLab's form."""
    model = build_model()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.2
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
            if parameter.ndim == 1 and name.endswith("weight"):
                parameter.add_(1)
        head = model.panoptic_head
        head.query_feat.weight.mul_(20)  # queries that differ,
        head.query_embed.weight.mul_(20)
        head.cls_embed.weight.mul_(8)  # that are sure of a class
        for parameter in (*head.pixel_decoder.mask_feature.parameters(), *head.mask_embed[4].parameters()):
            parameter.mul_(3)  # and of a mask
    path = tmp_path_factory.mktemp("mmdet") / "random.pth"
    torch.save({"meta": {}, "state_dict": model.state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def reference(checkpoint):
    return MMDetDetector.load(checkpoint, None, NAMES)


@pytest.fixture(scope="module")
def ours(checkpoint):
    return Mask2Former(mm.load_mmdet(checkpoint), NAMES)


@pytest.fixture(scope="module")
def pixels(picture):
    return prepare(picture(0, 128, 96), (128, 96)).pixels[None]


@torch.no_grad()
def reference_logits(model, pixels):
    """mmdet's last class and mask logits."""
    from mmdet.structures import DetDataSample

    shape = tuple(pixels.shape[-2:])
    sample = DetDataSample(metainfo={"img_shape": shape, "batch_input_shape": shape, "ori_shape": shape})
    classes, masks = model.panoptic_head(model.extract_feat(pixels), [sample])
    return classes[-1], masks[-1]


@torch.no_grad()
def our_logits(model, pixels):
    output = model(pixel_values=pixels)
    return output.class_queries_logits, output.masks_queries_logits


def distance(ours, theirs):
    """Largest difference of class and of mask logits, each in units of the reference's largest logit."""
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours, theirs, strict=True))


@pytest.fixture(scope="module")
def theirs(reference, pixels):
    return reference_logits(reference.model, pixels)


def test_logits_are_the_references(ours, theirs, pixels):
    found = distance(our_logits(ours.model, pixels), theirs)
    assert found < TOLERANCE
    print(f"\nlogits: {found:.1e} of the largest")
    assert theirs[0].std(1).mean() > 0.1, "queries that do not differ would hide errors"


def broken_rules():
    """Each rule with its tensors put wrong: packed parts rotated, merged axes left alone, others rolled by one."""
    for index, rule in enumerate(mm.RULES):
        if not rule.targets:
            continue
        if rule.change is mm.thirds:
            wrong = dataclasses.replace(rule, targets=rule.targets[1:] + rule.targets[:1])
        elif rule.change is mm.reorder_merged:
            wrong = dataclasses.replace(rule, change=lambda tensor: (tensor,))
        else:
            wrong = dataclasses.replace(rule, change=lambda tensor: (tensor.roll(1, 0),))
        yield pytest.param(index, wrong, id=rule.targets[0].replace("\\", "$"))


@pytest.mark.parametrize(("index", "wrong"), broken_rules())
def test_each_rule_matters(ours, checkpoint, theirs, pixels, index, wrong):
    rules = (*mm.RULES[:index], wrong, *mm.RULES[index + 1 :])
    right = {name: tensor.clone() for name, tensor in ours.model.state_dict().items()}
    ours.model.load_state_dict(mm.convert(mm.read_state(checkpoint), rules), strict=False)
    try:
        assert distance(our_logits(ours.model, pixels), theirs) > 10 * TOLERANCE
    finally:
        ours.model.load_state_dict(right)


SWAPS = {
    "query features and embeddings": ("queries_features.weight", "queries_embedder.weight"),
    "cross- and self-attention norms": ("cross_attn_layer_norm", "self_attn_layer_norm"),
    "norms before and after attention": ("layernorm_before", "layernorm_after"),
    "queries and keys": ("attention.q_proj", "attention.k_proj"),
}


@pytest.mark.parametrize(("one", "other"), SWAPS.values(), ids=SWAPS)
def test_likely_mix_ups_would_show(ours, theirs, pixels, one, other):
    right = {name: tensor.clone() for name, tensor in ours.model.state_dict().items()}
    mixed = {
        name: right.get(name.replace(one, "*").replace(other, one).replace("*", other), right[name]) for name in right
    }
    ours.model.load_state_dict(mixed)
    try:
        assert distance(our_logits(ours.model, pixels), theirs) > 10 * TOLERANCE
    finally:
        ours.model.load_state_dict(right)


def same_instances(ours, reference, image, tmp_path):
    """All instances of a picture file, by (query, label); returns (largest score difference, masks compared)."""
    from mmdet.apis import inference_detector

    path = tmp_path / "picture.png"
    image.save(path)
    fusion = reference.model.panoptic_fusion_head
    own_selection, seen = fusion.instance_postprocess, []
    fusion.instance_postprocess = lambda classes, masks: seen.append(classes) or own_selection(classes, masks)
    with torch.no_grad():
        rows = inference_detector(reference.model, str(path)).pred_instances
    fusion.instance_postprocess = own_selection
    found = ours.instances([image])[0]
    keys = list(zip(top_pairs(seen[0])[1].tolist(), rows.labels.tolist(), strict=True))
    own = {key: i for i, key in enumerate(zip(found.query.tolist(), found.label.tolist(), strict=True))}
    common = [key for key in keys if key in own]
    edge = float(rows.scores.min())
    assert all(float(rows.scores[keys.index(key)]) < edge + 5e-4 for key in keys if key not in own), (
        "only ties at the end may swap"
    )
    worst, compared = 0.0, 0
    for key in common:
        i, j = keys.index(key), own[key]
        worst = max(worst, abs(float(rows.scores[i] - found.score[j])))
        theirs, mask = rows.masks[i], found.mask[j]
        if theirs.sum() >= 64:
            compared += 1
            assert (rows.bboxes[i] - found.box[j]).abs().max() <= 1
            assert float((theirs & mask).sum() / (theirs | mask).sum()) > 0.99
    assert len(common) > 0.95 * len(keys) and worst < 5e-4
    return worst, compared


SMALLER = (256, 160)
"""A smaller test size on both sides: the rule is the same, a picture takes half a second instead of twenty."""


@pytest.fixture
def sized(ours, reference):
    """Both detectors at a test size."""
    steps = reference.model.cfg.test_dataloader.dataset.pipeline
    resize = next(step for step in steps if step["type"] == "Resize")
    original = resize["scale"]

    def at(size):
        resize["scale"] = size
        return Mask2Former(ours.model, NAMES, size), reference

    yield at
    resize["scale"] = original


@pytest.fixture
def smaller(sized):
    return sized(SMALLER)


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (64, 64), (500, 90), (256, 160)])
def test_whole_pictures_have_the_same_instances(smaller, picture, tmp_path, size):
    worst, compared = same_instances(*smaller, picture(sum(size), *size), tmp_path)
    print(f"\n{size}: scores within {worst:.1e}, {compared} masks compared")
    assert compared > 10


@pytest.mark.slow
def test_a_picture_at_cocos_size_has_the_same_instances(sized, picture, tmp_path):
    worst, compared = same_instances(*sized((1333, 800)), picture(7, 320, 320), tmp_path)
    print(f"\n1333 x 800: scores within {worst:.1e}, {compared} masks compared")
    assert compared > 10


def test_odd_files_are_read_like_mmdet_reads_them(smaller, tmp_path):
    """16-bit, grey, alpha and rotated pictures: detections from the file by mmdet, from our reader by us."""
    from mmdet.apis import inference_detector
    from PIL import Image

    from vhs.pictures import open_picture

    ours, reference = smaller
    grey = np.random.default_rng(0).integers(0, 256, (12, 16), dtype=np.uint8)
    grey = np.asarray(Image.fromarray(grey).resize((160, 120), Image.Resampling.BICUBIC))
    rgb = np.stack([grey, grey[::-1], grey[:, ::-1]], 2)
    exif = Image.Exif()
    exif[0x0112] = 6
    pictures = {
        "grey": (Image.fromarray(grey), {}),
        "alpha": (Image.fromarray(np.concatenate([rgb, 255 - rgb[..., :1]], 2)), {}),
        "rotated": (Image.fromarray(rgb), {"exif": exif}),
        "deep": (Image.fromarray(grey.astype(np.uint16) * 257), {}),
        "photo.jpg": (Image.fromarray(rgb), {"quality": 90}),
    }
    for name, (image, options) in pictures.items():
        path = tmp_path / (name if "." in name else f"{name}.png")
        image.save(path, **options)
        with torch.no_grad():
            rows = inference_detector(reference.model, str(path)).pred_instances
        found = ours.instances([open_picture(path)])[0]
        assert rows.masks.shape[1:] == found.mask.shape[1:], name
        assert torch.allclose(rows.scores.sort().values, found.score.sort().values, atol=5e-4), name


def test_judging_with_either_backend_sees_the_same_objects(smaller, picture):
    ours, reference = smaller
    image = picture(3, 200, 150)
    one, other = (
        sorted((d.label, round(d.score, 3)) for d in which.detect([image], 0.3)[0]) for which in (ours, reference)
    )
    assert one and [label for label, _ in one] == [label for label, _ in other]


def test_mmdet_does_not_go_on_with_half_a_checkpoint(checkpoint, tmp_path):
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    state.pop("panoptic_head.cls_embed.weight")
    torch.save({"state_dict": state}, tmp_path / "half.pth")
    with pytest.raises(CheckpointError, match="cls_embed.weight"):
        MMDetDetector.load(tmp_path / "half.pth", None, NAMES)


def test_a_checkpoint_of_mmdet_2_loads_into_both(checkpoint, theirs, pixels, old_name, tmp_path):
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    torch.save({"state_dict": {old_name(k): v for k, v in state.items()}}, tmp_path / "old.pth")
    assert distance(our_logits(mm.load_mmdet(tmp_path / "old.pth"), pixels), theirs) < TOLERANCE
    old = MMDetDetector.load(tmp_path / "old.pth", None, NAMES)
    assert distance(reference_logits(old.model, pixels), theirs) == 0
