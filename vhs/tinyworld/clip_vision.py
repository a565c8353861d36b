"""A stage beside the others: a CLIP vision tower, for verifiers that read the decoded picture.

transformers' `CLIPModel` learns by contrast (Radford et al., 2021) to match fresh scenes with their descriptions in
words; the vision half is shipped, in the format in which LLaVA's ViT-L/14@336 is published. No other stage needs it.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from transformers import AutoTokenizer, CLIPConfig, CLIPImageProcessor, CLIPModel, Qwen2Tokenizer

from vhs.tinyworld import recipe
from vhs.tinyworld.drawing import render
from vhs.tinyworld.language_model import describe
from vhs.tinyworld.scenes import SIZE, Scene, sample_scene

STAGE = "clip_vision"
FOLDER = recipe.CKPTS / "clip_vision"
BATCH, TOKENS = 96, 40
LAYERS = 5
"""Verifiers read the last but one."""


def build(tokenizer: Qwen2Tokenizer) -> CLIPModel:
    """Untrained: 64 patches of 8 px, five layers of width 96; the text half (three layers of width 64) is discarded."""
    shape = {"hidden_act": "gelu", "projection_dim": 64}
    vision = {"hidden_size": 96, "intermediate_size": 288, "num_hidden_layers": LAYERS, "num_attention_heads": 4}
    text = {"hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 3, "num_attention_heads": 4}
    return CLIPModel(CLIPConfig(
        vision_config={**shape, **vision, "image_size": SIZE, "patch_size": 8},
        text_config={**shape, **text, "vocab_size": len(tokenizer), "max_position_embeddings": TOKENS,
                     "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id,
                     "pad_token_id": tokenizer.pad_token_id},
        projection_dim=64,
    ))  # fmt: skip


def pictures_of(scenes: list[Scene]) -> list[Image.Image]:
    """The rendered pictures."""
    return [render(scene)[0] for scene in scenes]


def inputs(
    scenes: list[Scene], tokenizer: Qwen2Tokenizer, processor: CLIPImageProcessor, seed: int
) -> dict[str, torch.Tensor]:
    """Pixels (B, 3, 64, 64), and ids and mask (B, 40) of the scenes' descriptions."""
    rng = np.random.default_rng([seed, 17])
    texts = [describe(scene, rng) + tokenizer.eos_token for scene in scenes]
    words = tokenizer(texts, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt")
    return {**words, "pixel_values": processor(pictures_of(scenes), return_tensors="pt").pixel_values}


@torch.no_grad()
def found(model: CLIPModel, tokenizer: Qwen2Tokenizer, processor: CLIPImageProcessor, count: int) -> float:
    """The share of held-out scenes whose own description fits best among `count`."""
    scenes = [sample_scene(recipe.HELD_OUT_SEEDS + i, "test") for i in range(count)]
    best = model(**inputs(scenes, tokenizer, processor, 0)).logits_per_image.argmax(1)
    return (best == torch.arange(count)).float().mean().item()


def main() -> None:
    args = recipe.arguments(STAGE, steps=1500)
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(recipe.CKPTS / "language_model", trust_remote_code=False)
    tokenizer.padding_side = "right"
    side = {"height": SIZE, "width": SIZE}
    processor = CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size=side)
    model = build(tokenizer).to(args.device)

    def loss_of(step: int) -> torch.Tensor:
        batch = inputs(recipe.fresh_scenes(STAGE, step, BATCH), tokenizer, processor, step)
        with recipe.autocast(args.device):
            return model(
                **{name: value.to(args.device) for name, value in batch.items()}, return_loss=True
            ).loss.float()

    def evaluate(step: int) -> dict[str, float]:
        return {"found": round(found(model, tokenizer, processor, 200), 4)}

    recipe.train(
        STAGE,
        model,
        loss_of,
        steps=args.steps,
        peak=1e-3,
        warmup=100,
        average=0.995,
        evaluate=evaluate,
        evaluate_every=250,
    )
    recipe.log(STAGE, final_found=round(found(model.cpu().eval(), tokenizer, processor, 500), 4))
    model.vision_model.half().save_pretrained(FOLDER)
    processor.save_pretrained(FOLDER)


if __name__ == "__main__":
    recipe.command(main)
