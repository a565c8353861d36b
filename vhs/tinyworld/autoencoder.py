"""The autoencoder, diffusers' `AutoencoderDC` or `AutoencoderKL`, factor 8 and 16 channels, on fresh scenes.

L1 + L2 on pixels; a penalty holds each latent channel near mean 0 and deviation 1, so that the scalar `scaling_factor`
of the format suffices; a little noise on the latents makes the decoder forgiving of a generator's small errors. The
second world's `AutoencoderKL` is taught the first world's latents: its encoder to find them, its decoder to read them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from vhs.tinyworld import recipe
from vhs.tinyworld.scenes import sample_scene
from vhs.tinyworld.worlds import SANA, WORLDS, World

STAGE = "autoencoder"
LATENT_NOISE = 0.05


def load(device: str = "cpu", world: World = SANA) -> nn.Module:
    """The world's trained autoencoder, frozen, float32."""
    model = type(world.autoencoder()).from_pretrained(world.folder / "vae", torch_dtype=torch.float32)
    return model.to(device).eval().requires_grad_(False)


def encode(model: nn.Module, pictures: torch.Tensor) -> torch.Tensor:
    """Pictures (B, 3, 64, 64) -> latents (B, 16, 8, 8), of a variational autoencoder the posterior's mean."""
    out = model.encode(pictures)
    return out.latent_dist.mean if hasattr(out, "latent_dist") else out.latent


@torch.no_grad()
def psnr(model: nn.Module, first_seed: int, count: int, batch: int = 50) -> list[float]:
    """PSNR in dB of each of `count` held-out scenes, on pictures clipped to [-1, 1]."""
    values = []
    for start in range(first_seed, first_seed + count, batch):
        seeds = range(start, min(start + batch, first_seed + count))
        x = recipe.pictures(sample_scene(seed, "test") for seed in seeds)
        y = model.decode(encode(model, x)).sample.clamp(-1, 1)
        errors = ((x - y) / 2).square().mean(dim=(1, 2, 3))
        values += [-10 * math.log10(max(error, 1e-12)) for error in errors.tolist()]
    return values


def loss(encode: Callable, decode: Callable, step: int, device: str) -> torch.Tensor:
    """L1 + L2 on pixels, plus the penalty on each channel's mean and deviation."""
    x = recipe.pictures(recipe.fresh_scenes(STAGE, step, SANA.batches[STAGE])).to(device)
    with recipe.autocast(device):
        z = encode(x).latent.float()
        y = decode(noisy(z, step)).sample.float()
    penalty = z.mean(dim=(0, 2, 3)).square().mean() + (z.std(dim=(0, 2, 3)) - 1).square().mean()
    return pixel_error(x, y) + 0.02 * penalty


def taught_loss(model: nn.Module, first: nn.Module, step: int, device: str, world: World) -> torch.Tensor:
    """Of a variational autoencoder that is taught the latents of `first`: their negative log-likelihood by its
    posterior, in nats a number, and L1 + L2 on pixels decoded from them."""
    x = recipe.pictures(recipe.fresh_scenes(world.stage(STAGE), step, world.batches[STAGE])).to(device)
    with torch.no_grad():
        z = encode(first, x) * first.config.scaling_factor
    with recipe.autocast(device):
        posterior = model.encode(x).latent_dist
        y = model.decode(noisy(z, step)).sample.float()
    return pixel_error(x, y) + 0.1 * posterior.nll(z).mean() / z[0].numel()


def noisy(z: torch.Tensor, step: int) -> torch.Tensor:
    """Latents with a little noise that follows from the step."""
    return z + LATENT_NOISE * torch.randn(z.shape, generator=torch.Generator().manual_seed(step)).to(z.device)


def pixel_error(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """L1 + L2."""
    return (x - y).abs().mean() + (x - y).square().mean()


@torch.no_grad()
def deviation(model: nn.Module, stage: str, step: int) -> float:
    """Of the latents of 500 scenes that training did not reach."""
    x = recipe.pictures(recipe.fresh_scenes(stage, step, 500))
    return torch.cat([encode(model, part) for part in x.split(50)]).std().item()


def main() -> None:
    args = recipe.arguments(STAGE, None, WORLDS)
    world = WORLDS[args.world]
    stage, steps = world.stage(STAGE), args.steps or world.steps[STAGE]
    torch.manual_seed(0)
    model = world.autoencoder().to(args.device)

    def evaluate(step: int) -> dict[str, float]:
        values = psnr(model.eval().cpu(), recipe.HELD_OUT_SEEDS, 100)
        model.train().to(args.device)
        return {"psnr_db": round(sum(values) / len(values), 2)}

    first = load(args.device) if world.taught else None
    halves = [world.compiled(half) for half in (model.encode, model.decode)]

    def loss_of(step: int) -> torch.Tensor:
        return taught_loss(model, first, step, args.device, world) if first else loss(*halves, step, args.device)

    recipe.train(
        stage, model, loss_of, steps=steps, peak=2e-3, average=0.995, evaluate=evaluate, evaluate_every=400
    )  # fmt: skip
    model.eval().cpu()
    scale = 1.0 if first else 1 / deviation(model, stage, steps)
    model.register_to_config(scaling_factor=round(scale, 5))
    model.half().save_pretrained(world.folder / "vae")
    values = psnr(load(world=world), recipe.HELD_OUT_SEEDS, 1000)
    recipe.log(stage, final_psnr_db=round(sum(values) / len(values), 2), scaling_factor=scale)


if __name__ == "__main__":
    recipe.command(main)
