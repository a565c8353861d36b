"""Colours: prompts averaged, objects cut out, all crops in one pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from vhs.errors import CheckpointError
from vhs.geneval.colors import TEMPLATES, ColorQuery, cut_out, load_colors, openai_options
from vhs.geneval.rules import COLORS
from vhs.records import Detection


def disc(size=64, box=(10, 20, 40, 50)):
    mask = np.zeros((size, size), dtype=bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    mask[box[1], box[0]] = False
    return Detection("circle", 0.9, tuple(map(float, box)), mask)


def test_an_object_is_cut_out_on_grey_999_and_cropped_to_its_box():
    image = Image.new("RGB", (64, 64), "red")
    crop = np.asarray(cut_out(image, disc()))
    assert crop.shape == (30, 30, 3)
    assert crop[0, 0].tolist() == [0x99] * 3 and crop[5, 5].tolist() == [255, 0, 0]
    assert cut_out(image, Detection("circle", 0.9, (0.4, 0.6, 9.6, 9.4))).size == (10, 8)


def test_prototypes_average_genevals_three_templates(colors):
    assert TEMPLATES == (
        "a photo of a {color} {object}",
        "a photo of a {color}-colored {object}",
        "a photo of a {color} object",
    )
    with torch.no_grad():
        texts = ["a photo of a green star", "a photo of a green-colored star", "a photo of a green object"]
        each = [colors.model.encode_text(colors.tokenizer([text]))[0] for text in texts]
    mean = sum(one / one.norm() for one in each) / 3
    found = colors.prototypes("star")[COLORS.index("green")]
    assert torch.allclose(found, mean / mean.norm(), atol=1e-6)


def test_a_batch_of_crops_names_what_single_crops_name(colors, picture):
    queries = [ColorQuery(picture(seed), disc(), label) for seed, label in ((0, "circle"), (1, "star"), (2, "circle"))]
    together = colors.similarities(queries)
    alone = torch.cat([colors.similarities([query]) for query in queries])
    assert torch.allclose(together, alone, atol=1e-5)
    assert colors.classify(queries) == [COLORS[i] for i in alone.argmax(1)]
    assert len({tuple(row) for row in together.tolist()}) == 3
    assert colors.classify([]) == []


def test_all_crops_share_one_forward_pass(colors, picture, monkeypatch):
    sizes = []
    encode = colors.model.encode_image
    monkeypatch.setattr(colors.model, "encode_image", lambda x: sizes.append(len(x)) or encode(x))
    colors.classify([ColorQuery(picture(seed), disc(), "circle") for seed in range(5)])
    assert sizes == [5]


def test_openais_weights_get_their_quickgelu():
    assert openai_options("ViT-L-14") == {"pretrained": "openai", "force_quick_gelu": True}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("local-dir:/nowhere", "/nowhere/open_clip_config.json: is missing"),
        ("ViT-Z-99", "open_clip has no model 'ViT-Z-99'"),
        ("coca_base", "OpenAI published no weights for 'coca_base'"),
    ],
)
def test_a_wrong_classifier_is_refused_before_anything_loads(name, message):
    with pytest.raises(CheckpointError, match=message):
        load_colors(name)


def test_a_folder_without_weights_is_refused(clip_folder, tmp_path):
    from pathlib import Path

    source = Path(clip_folder.removeprefix("local-dir:")) / "open_clip_config.json"
    (tmp_path / "open_clip_config.json").write_text(source.read_text())
    with pytest.raises(CheckpointError, match="open_clip_model.safetensors: is missing"):
        load_colors(f"local-dir:{tmp_path}")
