"""CLIP features that were collected give the scores that the pictures give."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from vhs.errors import CheckpointError
from vhs.pictures import encode
from vhs.records import Prompt
from vhs.training.data.layout import Layout
from vhs.training.data.store import CollectedSet, begin, write_shard
from vhs.training.data.towers import collected_clip_verifier, load_tower
from vhs.training.trainer import train
from vhs.verifiers.load import load_verifier

GOLDENS = Path(__file__).parents[2] / "goldens"
TOWER = GOLDENS / "B" / "openai" / "clip-vit-tiny-patch14-56"


def pictures():
    return [Image.open(path) for path in sorted((GOLDENS / "B" / "images").glob("*.png"))]


def test_the_tower_gives_the_releases_features():
    expected = load_file(GOLDENS / "B" / "tensors_fp32.safetensors")["fp32.tower_features"]
    torch.testing.assert_close(load_tower(str(TOWER), -2, "cpu")(pictures()[:8]), expected, rtol=0, atol=1e-4)


def test_a_verifier_of_collected_features_scores_like_one_of_pictures(config, tmp_path):
    tower = load_tower(str(TOWER), -2, "cpu")
    images = [picture.convert("RGB") for picture in pictures()[:8]]
    features = tower(images)
    prompts = [Prompt(i, f"a photo of {name}", {"tag": "single_object", "include": [{"class": "x", "count": 1}]})
               for i, name in enumerate(("a cat", "a dog"))]  # fmt: skip
    layout = Layout({"clip": tuple(features.shape[1:])}, "float32", 2, 4, 2, "png")
    begin(tmp_path / "set", layout, prompts)
    write_shard(tmp_path / "set", 0, {"clip": features}, [encode(image, "png") for image in images])
    rows = [{"prompt_id": i // 4, "candidate": i % 4, "correct": i % 2 == 0} for i in range(8)]
    (tmp_path / "set" / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = train(
        config(
            data=[str(tmp_path / "set")],
            feature="clip",
            vision_tower=str(TOWER),
            eval_fraction=0,
            batch_size=8,
            max_steps=3,
        )
    )
    data = CollectedSet(tmp_path / "set")
    seen = load_verifier(result.checkpoint, use_generation_prompt=False).score("a photo of a cat", images)
    stored = collected_clip_verifier(str(result.checkpoint), use_generation_prompt=False)
    read = stored.score("a photo of a cat", data.gather("clip", range(8)))
    torch.testing.assert_close(read.score, seen.score, rtol=0, atol=1e-5)


def test_what_is_no_tower_is_refused(tmp_path, language_model):
    shutil.copytree(TOWER, tmp_path / "tower")
    (tmp_path / "tower" / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="not a CLIP vision tower"):
        load_tower(str(tmp_path / "tower"), -2, "cpu")
    with pytest.raises(CheckpointError, match="reads hidden features"):
        collected_clip_verifier(str(GOLDENS / "A" / "vhs-tiny-hidden"))
