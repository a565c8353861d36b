"""A probe of clean latents, which names the shape and the colour that each token shows.

It is there for the generator's block 7: teacher and student learn to predict, from noise, what the probe will say of
the finished latent (representation alignment with a frozen encoder: Yu et al., 2024). SANA-Sprint's block 7 can be
read without that, as the paper shows; in a network of 3 M parameters it hardly can (docs/LOG.md).
"""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from vhs.tinyworld import autoencoder, recipe
from vhs.tinyworld.drawing import covered
from vhs.tinyworld.sana import SIZES
from vhs.tinyworld.scenes import COLORS, SHAPES, Scene, sample_scene

STAGE = "latent_reader"
"""The name under which seeds and the work folder have always known this stage."""
SHIPPED = recipe.CKPTS / "teacher" / "latent_reader.safetensors"
SCENES, BATCH = 48_000, 256
HELD_OUT = 2_000


def scene_of(index: int) -> Scene:
    """The `index`-th of the scenes that probe and teacher see."""
    return sample_scene(recipe.scene_seed("teacher", index))


def cache_latents(device: str) -> tuple[torch.Tensor, list[str]]:
    """Normalised latents (n, 16, 8, 8) float16 and captions of the scenes that probe and teacher see; made once."""
    folder = recipe.WORK / STAGE
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "latents.npy"
    if not path.exists():
        model, texts, parts = autoencoder.load(device), [], []
        for start in tqdm(range(0, SCENES, 100), desc="scenes and latents", mininterval=10):
            scenes = [scene_of(start + i) for i in range(100)]
            texts += [scene.caption for scene in scenes]
            with torch.no_grad(), recipe.autocast(device):
                z = model.encode(recipe.pictures(scenes).to(device)).latent.float() * model.config.scaling_factor
            parts.append(z.cpu().half().numpy())
        (folder / "captions.json").write_text(json.dumps(texts), encoding="utf-8")
        np.save(folder / "latents.partial.npy", np.concatenate(parts))
        (folder / "latents.partial.npy").replace(path)
    return torch.from_numpy(np.load(path)), json.loads((folder / "captions.json").read_text(encoding="utf-8"))


class LatentProbe(nn.Module):
    """Four 3 x 3 convolutions of width 64; a token sees the whole 8 x 8 latent."""

    def __init__(self, channels: int):
        super().__init__()
        widths = [channels, 64, 64, 64, 64]
        self.body = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))
        self.head = nn.Conv2d(64, sum(SIZES), 1)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Normalised latents (B, c, h, w) -> logits (B, sum of `SIZES`, h, w)."""
        x = latents
        for layer in self.body:
            x = F.gelu(layer(x))
        return self.head(x)


def targets(scene: Scene, side: int) -> torch.Tensor:
    """(2, side, side) int64: shape and colour of the object whose radius covers the token's centre, 0 for none."""
    found = torch.zeros((2, side, side), dtype=torch.long)
    for obj in scene.objects:
        inside = torch.from_numpy(covered(obj, side))
        found[0, inside] = 1 + SHAPES.index(obj.shape)
        found[1, inside] = 1 + list(COLORS).index(obj.color)
    return found


def agreement(logits: torch.Tensor, probabilities: list[torch.Tensor]) -> torch.Tensor:
    """Cross-entropy, a mean over tokens, of logits (B, sum of `SIZES`, h, w) with a probe's probabilities."""
    return sum(F.cross_entropy(part, truth) for part, truth in zip(logits.split(SIZES, 1), probabilities, strict=True))


@torch.no_grad()
def read(probe: LatentProbe, latents: torch.Tensor) -> list[torch.Tensor]:
    """Probabilities of shapes (B, 9, h, w) and colours (B, 11, h, w)."""
    return [part.softmax(1) for part in probe(latents).split(SIZES, 1)]


def main() -> None:
    args = recipe.arguments("latent_probe", steps=800)
    torch.manual_seed(0)
    latents, _ = cache_latents(args.device)
    side = latents.shape[-1]
    truth = torch.stack([targets(scene_of(i), side) for i in range(len(latents))])
    model = LatentProbe(latents.shape[1]).to(args.device)

    def loss_of(step: int) -> torch.Tensor:
        chosen = torch.randint(len(latents) - HELD_OUT, (BATCH,), generator=torch.Generator().manual_seed(step))
        parts = model(latents[chosen].float().to(args.device)).split(SIZES, 1)
        return sum(F.cross_entropy(part, truth[chosen, k].to(args.device)) for k, part in enumerate(parts))

    @torch.no_grad()
    def evaluate(step: int) -> dict[str, float]:
        parts = model(latents[-HELD_OUT:].float().to(args.device)).split(SIZES, 1)
        there = truth[-HELD_OUT:, 0] > 0
        right = torch.stack([part.argmax(1).cpu() == truth[-HELD_OUT:, k] for k, part in enumerate(parts)]).all(0)
        return {
            "objects_right": round(right[there].float().mean().item(), 4),
            "right": round(right.float().mean().item(), 4),
        }

    recipe.train(STAGE, model, loss_of, steps=args.steps, peak=2e-3, warmup=50, evaluate=evaluate, evaluate_every=200)
    torch.save(model.state_dict(), recipe.WORK / STAGE / "model.pt")
    SHIPPED.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.half() for name, value in model.state_dict().items()}, SHIPPED)


def load(device: str, channels: int) -> LatentProbe:
    """The trained probe, frozen, from the work folder, or the shipped one."""
    model, path = LatentProbe(channels).to(device), recipe.WORK / STAGE / "model.pt"
    state = torch.load(path, weights_only=True, map_location=device) if path.exists() else load_file(SHIPPED, device)
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)


if __name__ == "__main__":
    recipe.command(main)
