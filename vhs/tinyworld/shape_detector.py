"""The detector, transformers' Mask2Former on a small Swin, on fresh scenes with true masks.

Pictures are blurred, shifted in grey and made noisy by a little, since what it will judge comes out of a decoder.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

from vhs.tinyworld import recipe
from vhs.tinyworld.drawing import render
from vhs.tinyworld.scenes import SHAPES, Scene, sample_scene

STAGE = "detector"
BATCH = 32
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""mmdet's normalisation of RGB grey levels, which `vhs.geneval.detector` applies as well."""


def build() -> Mask2FormerForUniversalSegmentation:
    """The untrained detector: 64 px, 8 classes, 8 queries, 1.7 M parameters."""
    swin = SwinConfig(
        image_size=64, patch_size=4, embed_dim=32, depths=[1, 1, 2, 1], num_heads=[2, 2, 4, 4], window_size=4,
        drop_path_rate=0.0, out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = Mask2FormerConfig(
        backbone_config=swin, feature_size=64, mask_feature_size=64, hidden_dim=64, encoder_feedforward_dim=128,
        dim_feedforward=128, encoder_layers=2, decoder_layers=3, num_attention_heads=4, num_queries=8,
        train_num_points=512, dropout=0.0, id2label=dict(enumerate(SHAPES)),
        label2id={shape: i for i, shape in enumerate(SHAPES)},
    )  # fmt: skip
    return Mask2FormerForUniversalSegmentation(config)


def augment(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """(B, 3, 64, 64) in [-1, 1]: for half of the pictures a blend with a 3x3 blur, noise and a shift in grey."""
    batch = len(pixels)

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator)

    blurred = F.avg_pool2d(F.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    pixels = torch.lerp(pixels, blurred, 0.7 * draw(batch, 1, 1, 1) * (draw(batch, 1, 1, 1) < 0.5))
    noise = torch.randn(pixels.shape, generator=generator) * 0.06 * draw(batch, 1, 1, 1) * (draw(batch, 1, 1, 1) < 0.5)
    return (pixels + noise + 0.05 * (draw(batch, 3, 1, 1) - 0.5)).clamp(-1, 1)


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    """[-1, 1] to the detector's input."""
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    return ((pixels + 1) * 127.5 - mean) / std


def loss(model: Mask2FormerForUniversalSegmentation, step: int, device: str) -> torch.Tensor:
    """Mask2Former's own loss on one batch of fresh scenes."""
    scenes = recipe.fresh_scenes(STAGE, step, BATCH)
    drawn = [render(scene) for scene in scenes]
    arrays = np.stack([np.asarray(picture) for picture, _ in drawn])
    pixels = torch.from_numpy(arrays).permute(0, 3, 1, 2).float() / 127.5 - 1
    pixels = augment(pixels, torch.Generator().manual_seed(step))
    masks = [torch.from_numpy(mask).float().to(device) for _, mask in drawn]
    classes = [torch.tensor([SHAPES.index(obj.shape) for obj in scene.objects], device=device) for scene in scenes]
    with recipe.autocast(device):
        return model(pixel_values=normalised(pixels).to(device), mask_labels=masks, class_labels=classes).loss.sum()


@torch.no_grad()
def exact(model: Mask2FormerForUniversalSegmentation, scenes: list[Scene], threshold: float) -> float:
    """The share of scenes whose multiset of classes above `threshold` is exactly right."""
    device = next(model.parameters()).device
    logits = model(pixel_values=normalised(recipe.pictures(scenes)).to(device)).class_queries_logits
    best = logits.softmax(-1)[..., :-1].max(-1)
    hits = 0
    for scene, scores, labels in zip(scenes, best.values, best.indices, strict=True):
        hits += sorted(labels[scores > threshold].tolist()) == sorted(SHAPES.index(o.shape) for o in scene.objects)
    return hits / len(scenes)


def main() -> None:
    args = recipe.arguments("shape_detector", steps=6500)
    torch.manual_seed(0)
    model = build().to(args.device)
    held_out = [sample_scene(recipe.HELD_OUT_SEEDS + i, "test") for i in range(300)]

    def evaluate(step: int) -> dict[str, float]:
        model.eval()
        figures = {f"exact_above_{t}": round(exact(model, held_out, t), 4) for t in (0.3, 0.5, 0.9)}
        model.train()
        return figures

    recipe.train(
        STAGE, model, lambda step: loss(model, step, args.device), steps=args.steps, peak=1e-3, average=0.998,
        evaluate=evaluate, evaluate_every=500,
    )  # fmt: skip
    model.eval().cpu()
    recipe.log(
        STAGE, final_exact_above_0_5=exact(model, held_out, 0.5), final_exact_above_0_9=exact(model, held_out, 0.9)
    )
    model.half().save_pretrained(recipe.CKPTS / "detector")


if __name__ == "__main__":
    recipe.command(main)
