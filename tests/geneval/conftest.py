"""Small random models of the real classes: what the shipped ones are in shape, without training."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from vhs.geneval.colors import ColorClassifier, load_colors
from vhs.geneval.detector import Mask2Former

SHAPES = ("circle", "square", "triangle", "star", "heart", "cross", "ring", "moon")
CLIP_CONFIG = {
    "model_cfg": {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 8, "head_width": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    },
    "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
}


def small_mask2former(num_labels: int = 8, queries: int = 8):
    """A Mask2Former of 0.2 M parameters, every tensor random."""
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

    stages = ["stage1", "stage2", "stage3", "stage4"]
    swin = SwinConfig(
        image_size=64, embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 2], window_size=4, out_features=stages
    )
    config = Mask2FormerConfig(
        backbone_config=swin,
        num_labels=num_labels,
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=32,
        dim_feedforward=32,
        encoder_layers=1,
        decoder_layers=3,
        num_attention_heads=2,
        num_queries=queries,
    )
    torch.manual_seed(0)
    model = Mask2FormerForUniversalSegmentation(config)
    randomise(model)
    return model.eval()


def randomise(model: torch.nn.Module) -> None:
    """Every parameter random: default initialisation leaves zeros and ones that hide errors."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.2
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
        model.class_predictor.weight.mul_(12)  # some queries are sure of a class,
        model.model.pixel_level_module.decoder.mask_projection.weight.mul_(12)  # and of their masks


def noise_picture(seed: int, width: int = 64, height: int = 64) -> Image.Image:
    """A smooth random RGB picture."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="session")
def picture():
    return noise_picture


@pytest.fixture(scope="session")
def make_mask2former():
    return small_mask2former


@pytest.fixture(scope="session")
def detector() -> Mask2Former:
    return Mask2Former(small_mask2former(), SHAPES, (64, 64))


@pytest.fixture(scope="session")
def detector_folder(tmp_path_factory):
    """A `save_pretrained` folder of the small detector."""
    folder = tmp_path_factory.mktemp("detector")
    small_mask2former().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def names_file(tmp_path_factory):
    """The eight shapes, one a line."""
    path = tmp_path_factory.mktemp("names") / "object_names.txt"
    path.write_text("\n".join(SHAPES) + "\n")
    return path


@pytest.fixture(scope="session")
def judge_config(detector_folder, names_file, clip_folder):
    """The settings of the small judge."""
    from vhs.geneval.spec import JudgeConfig

    return JudgeConfig(
        segmentation_ckpt_path=str(detector_folder),
        object_names=str(names_file),
        detector_size=(64, 64),
        color_classifier=clip_folder,
        device="cpu",
    )


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory) -> str:
    """A `local-dir:` open_clip folder with random weights."""
    from open_clip.model import CLIP
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("clip")
    (folder / "open_clip_config.json").write_text(json.dumps(CLIP_CONFIG))
    torch.manual_seed(0)
    model = CLIP(**CLIP_CONFIG["model_cfg"])
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    return f"local-dir:{folder}"


@pytest.fixture(scope="session")
def colors(clip_folder) -> ColorClassifier:
    return load_colors(clip_folder)


def mmdet_2_name(name: str) -> str:
    """mmdet 2's name of a tensor for mmdet 3's."""
    name = re.sub(r"(pixel_decoder\.encoder\.layers\.\d+)\.self_attn\.", r"\1.attentions.0.", name)
    name = re.sub(r"(transformer_decoder\.layers\.\d+)\.cross_attn\.", r"\1.attentions.0.", name)
    name = re.sub(r"(transformer_decoder\.layers\.\d+)\.self_attn\.", r"\1.attentions.1.", name)
    return re.sub(r"(panoptic_head\..*layers\.\d+)\.ffn\.", r"\1.ffns.0.", name)


@pytest.fixture(scope="session")
def old_name():
    return mmdet_2_name
