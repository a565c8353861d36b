"""A judge whose models are small and random."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

NAMES = ("moon", "ring", "cross", "heart", "star", "triangle", "square", "circle")
"""Not in the shipped order: the evaluator's known answers are for the shipped detector."""
CLIP_SIZES = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "patch_size": 16, "head_width": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def write_judge(folder: Path) -> dict[str, Any]:
    """Writes a detector, a colour classifier and names of classes to a new folder; the keys that name them."""
    import torch
    from open_clip.model import CLIP
    from safetensors.torch import save_file
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

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
    clip = folder / "clip"
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


def write_clip(folder: Path) -> None:
    """Writes a CLIP model with its tokenizer and preprocessor, small and random, as transformers has them on the
    Hub."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, PreTrainedTokenizerFast

    letters = [*"abcdefghijklmnopqrstuvwxyz", "<|endoftext|>", "<|startoftext|>"]
    inner = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    ).save_pretrained(folder)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = CLIPConfig(
        text_config={**shape, "vocab_size": 28, "max_position_embeddings": 16, "eos_token_id": 26},
        vision_config={**shape, "image_size": 32, "patch_size": 8},
        projection_dim=24,
    )
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
