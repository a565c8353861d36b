"""A stage beside the others: a LoRA adapter that shifts the shipped generator to another style of pictures, for the
ablation of shifted generators.

It learns by regression what the generator makes of the same noise and caption, in faded, yellowed colours. The adapter
is saved halfway and at the end, in the format of `SanaSprintPipeline.save_lora_weights`, below
`outputs/paper/adapters/`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import SanaSprintPipeline, SanaTransformer2DModel
from peft import LoraConfig, get_peft_model_state_dict
from tqdm import tqdm

from vhs.tinyworld import autoencoder, recipe, sana, student
from vhs.tinyworld.worlds import SANA

STAGE = "adapters"
FOLDER = Path("outputs/paper/adapters")
PAIRS, RANK, BATCH = 4_096, 8, 64
FADED = 0.4
"""What is left of each pixel's distance to its own grey."""
TINT = (1.0, 0.85, 0.65)
"""Factors of red, green and blue."""


def in_style(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures (B, 3, H, W) in [-1, 1] in the other style."""
    levels = (pictures.clamp(-1, 1) + 1) / 2
    grey = levels.mean(dim=1, keepdim=True)
    faded = grey + FADED * (levels - grey)
    return 2 * faded * torch.tensor(TINT, device=pictures.device).view(1, 3, 1, 1) - 1


@torch.no_grad()
def pairs(device: str) -> tuple[torch.Tensor, ...]:
    """Noise and the samples in the other style (n, 16, 8, 8), ids and mask of their captions (n, 16)."""
    model, vae = student.load(SANA).to(device), autoencoder.load(device)
    shards = range(1000, 1000 + PAIRS // student.PER_SHARD)
    texts = [text for shard in shards for text in student.captions_of_shard(shard)]
    ids, mask = (part.to(device) for part in student.table(SANA, texts))
    z = torch.cat([student.noise_of_shard(shard) for shard in shards]).to(device)
    samples = []
    for part in tqdm(torch.arange(len(z)).split(BATCH), desc="samples in the other style", mininterval=10):
        latents = model.one_step(z[part], ids[part], mask[part])[0]
        samples.append(autoencoder.encode(vae, in_style(vae.decode(latents).sample)))
    return z, torch.cat(samples), ids, mask


def save(transformer: SanaTransformer2DModel, name: str) -> None:
    """Write the adapter as diffusers reads it."""
    SanaSprintPipeline.save_lora_weights(
        FOLDER / name, transformer_lora_layers=get_peft_model_state_dict(transformer),
        transformer_lora_adapter_metadata=transformer.peft_config["default"].to_dict(),
    )  # fmt: skip


def main() -> None:
    args = recipe.arguments(STAGE, steps=400)
    torch.manual_seed(0)
    z, x0, ids, mask = pairs(args.device)
    pipeline = SanaSprintPipeline.from_pretrained(SANA.folder, torch_dtype=torch.float32).to(args.device)
    with torch.no_grad():
        text = torch.cat([
            pipeline.text_encoder(input_ids=i, attention_mask=m).last_hidden_state
            for i, m in zip(ids.split(256), mask.split(256), strict=True)
        ])  # fmt: skip
    transformer = pipeline.transformer.requires_grad_(False)
    transformer.add_adapter(
        LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=["to_q", "to_k", "to_v", "to_out.0"])
    )

    def loss_of(step: int) -> torch.Tensor:
        if step == args.steps // 2:
            save(transformer, "lora_50")
        chosen = torch.randint(len(z), (BATCH,), generator=torch.Generator().manual_seed(step)).to(args.device)
        ones = torch.ones(BATCH, device=args.device)
        velocity = transformer(
            z[chosen], encoder_hidden_states=text[chosen], encoder_attention_mask=mask[chosen], timestep=ones,
            guidance=sana.GUIDANCE * ones, return_dict=False,
        )[0]  # fmt: skip
        return (z[chosen] - velocity - x0[chosen]).square().mean()

    recipe.train(STAGE, transformer, loss_of, steps=args.steps, peak=2e-3, warmup=20, evaluate_every=50, weight_decay=0)
    save(transformer, "lora_100")


if __name__ == "__main__":
    recipe.command(main)
