"""Small real models for whole runs: the golden generator and verifier, and a random detector and colour classifier."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

GOLDEN_D = Path(__file__).parent / "goldens" / "D"
NAMES = ("moon", "ring", "cross", "heart", "star", "triangle", "square", "circle")
"""Not in the shipped order: the evaluator's known answers are for the shipped detector."""
CLIP_SIZES = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "patch_size": 16, "head_width": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
PROMPTS = [
    {"tag": "single_object", "include": [{"class": "circle", "count": 1}], "prompt": "a photo of a circle"},
    {
        "tag": "counting",
        "include": [{"class": "star", "count": 2}],
        "exclude": [{"class": "star", "count": 3}],
        "prompt": "a photo of two stars",
    },
    {"tag": "colors", "include": [{"class": "ring", "count": 1, "color": "red"}], "prompt": "a photo of a red ring"},
]


@pytest.fixture(scope="session")
def judge_keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Configuration keys of an evaluator whose models are small and random."""
    import torch
    from open_clip.model import CLIP
    from safetensors.torch import save_file
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

    folder = tmp_path_factory.mktemp("judge")
    torch.manual_seed(0)
    swin = SwinConfig(
        image_size=64,
        embed_dim=16,
        depths=[1] * 4,
        num_heads=[1, 2, 2, 2],
        window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    sizes = dict.fromkeys(
        ("feature_size", "mask_feature_size", "hidden_dim", "encoder_feedforward_dim", "dim_feedforward"), 32
    )
    config = Mask2FormerConfig(
        backbone_config=swin,
        num_labels=8,
        encoder_layers=1,
        decoder_layers=3,
        num_attention_heads=2,
        num_queries=8,
        **sizes,
    )
    Mask2FormerForUniversalSegmentation(config).save_pretrained(folder / "detector")
    clip = folder / "color_clip"
    clip.mkdir()
    preprocessing = {"mean": [0.5] * 3, "std": [0.5] * 3}
    (clip / "open_clip_config.json").write_text(json.dumps({"model_cfg": CLIP_SIZES, "preprocess_cfg": preprocessing}))
    weights = {name: tensor.contiguous() for name, tensor in CLIP(**CLIP_SIZES).state_dict().items()}
    save_file(weights, clip / "open_clip_model.safetensors")
    (folder / "names.txt").write_text("\n".join(NAMES))
    return {
        "segmentation_ckpt_path": str(folder / "detector"),
        "object_names": str(folder / "names.txt"),
        "detector_size": [64, 64],
        "color_classifier": f"local-dir:{clip}",
    }


@pytest.fixture
def run_keys(tmp_path: Path) -> dict[str, Any]:
    """Keys of a run with golden D's generator and verifier: three prompts, four candidates, no judge."""
    (tmp_path / "prompts.json").write_text(json.dumps(PROMPTS))
    return {
        "name": "small",
        "ckpt": str(GOLDEN_D / "sana-sprint-tiny"),
        "output_path": str(tmp_path / "out"),
        "annotation": str(tmp_path / "prompts.json"),
        "seed": 42,
        "num_samples": 4,
        "image_width": 64,
        "image_height": 64,
        "latent_verifier_path": str(GOLDEN_D / "vhs-tiny-hidden"),
        "vision_tower": "hidden_7",
        "resize_vocabulary": True,
        "normalization_mean_path": str(GOLDEN_D / "block_7_mean_bf16.pt"),
        "normalization_variance_path": str(GOLDEN_D / "block_7_variance_bf16.pt"),
        "use_generation_prompt": False,
        "device": "cpu",
        "dtype": "float32",
        "max_sequence_length": 32,
        "complex_human_instruction": False,
        "micro_batch": 2,
    }


@pytest.fixture
def config_file(tmp_path: Path):
    """`config_file(keys, name)`: a YAML file with these keys."""

    def write(keys: dict[str, Any], name: str = "run.yaml") -> str:
        path = tmp_path / name
        path.write_text(yaml.safe_dump(keys))
        return str(path)

    return write
