"""Stage 1: the autoencoder, diffusers' `AutoencoderDC` with factor 8 and 16 channels, on fresh scenes.

L1 + L2 on pixels; a penalty holds each latent channel near mean 0 and deviation 1, so that the scalar `scaling_factor`
of the format suffices; a little noise on the latents makes the decoder forgiving of a generator's small errors.
"""

from __future__ import annotations

import math

import torch
from diffusers import AutoencoderDC

from vhs.tinyworld import recipe
from vhs.tinyworld.scenes import sample_scene

STAGE = "autoencoder"
BATCH = 32
LATENT_NOISE = 0.05


def build() -> AutoencoderDC:
    """The untrained autoencoder: 64 px -> (16, 8, 8), 1.0 M parameters."""
    blocks = ["ResBlock", "ResBlock", "ResBlock", "EfficientViTBlock"]
    channels, layers, scales = (16, 32, 64, 128), (1, 1, 1, 1), ((), (), (), (5,))
    return AutoencoderDC(
        latent_channels=16,
        attention_head_dim=16,
        encoder_block_types=blocks,
        decoder_block_types=blocks,
        encoder_block_out_channels=channels,
        decoder_block_out_channels=channels,
        encoder_layers_per_block=layers,
        decoder_layers_per_block=layers,
        encoder_qkv_multiscales=scales,
        decoder_qkv_multiscales=scales,
        downsample_block_type="Conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=1.0,
    )


def load(device: str = "cpu") -> AutoencoderDC:
    """The shipped autoencoder, frozen, float32."""
    model = AutoencoderDC.from_pretrained(recipe.CKPTS / "sana_sprint" / "vae", torch_dtype=torch.float32)
    return model.to(device).eval().requires_grad_(False)


@torch.no_grad()
def psnr(model: AutoencoderDC, first_seed: int, count: int, batch: int = 50) -> list[float]:
    """PSNR in dB of each of `count` held-out scenes, on pictures clipped to [-1, 1]."""
    values = []
    for start in range(first_seed, first_seed + count, batch):
        seeds = range(start, min(start + batch, first_seed + count))
        x = recipe.pictures(sample_scene(seed, "test") for seed in seeds)
        y = model.decode(model.encode(x).latent).sample.clamp(-1, 1)
        errors = ((x - y) / 2).square().mean(dim=(1, 2, 3))
        values += [-10 * math.log10(max(error, 1e-12)) for error in errors.tolist()]
    return values


def loss(model: AutoencoderDC, step: int, device: str) -> torch.Tensor:
    """L1 + L2 on pixels, plus the penalty on each channel's mean and deviation."""
    x = recipe.pictures(recipe.fresh_scenes(STAGE, step, BATCH)).to(device)
    noise = torch.randn((BATCH, 16, 8, 8), generator=torch.Generator().manual_seed(step)).to(device)
    with recipe.autocast(device):
        z = model.encode(x).latent.float()
        y = model.decode(z + LATENT_NOISE * noise).sample.float()
    penalty = z.mean(dim=(0, 2, 3)).square().mean() + (z.std(dim=(0, 2, 3)) - 1).square().mean()
    return (x - y).abs().mean() + (x - y).square().mean() + 0.02 * penalty


def main() -> None:
    args = recipe.arguments(STAGE, steps=1600)
    torch.manual_seed(0)
    model = build().to(args.device)

    def evaluate(step: int) -> dict[str, float]:
        values = psnr(model.eval().cpu(), recipe.HELD_OUT_SEEDS, 100)
        model.train().to(args.device)
        return {"psnr_db": round(sum(values) / len(values), 2)}

    recipe.train(
        STAGE, model, lambda step: loss(model, step, args.device), steps=args.steps, peak=2e-3, average=0.995,
        evaluate=evaluate, evaluate_every=400,
    )  # fmt: skip
    model.eval().cpu()
    x = recipe.pictures(recipe.fresh_scenes(STAGE, args.steps, 500))
    with torch.no_grad():
        deviation = model.encode(x).latent.std().item()
    model.register_to_config(scaling_factor=round(1 / deviation, 5))
    model.half().save_pretrained(recipe.CKPTS / "sana_sprint" / "vae")
    values = psnr(load(), recipe.HELD_OUT_SEEDS, 1000)
    recipe.log(STAGE, final_psnr_db=round(sum(values) / len(values), 2), scaling_factor=1 / deviation)


if __name__ == "__main__":
    main()
