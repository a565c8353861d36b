"""The teacher and its text encoder, trained together by flow matching in SANA's parametrisation.

The transformer is diffusers' `SanaTransformer2DModel` with SANA-Sprint's options and 20 blocks; the text encoder is a
two-layer Gemma-2. With data x0 of unit variance, noise z and s in (0, 1), the input is x_s = (1 - s) x0 + s z and the
target the flow velocity z - x0; a tenth of the captions are empty, for classifier-free guidance.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from safetensors.torch import load_file, save_file

from vhs.tinyworld import latent_probe, recipe, sana, text_encoder
from vhs.tinyworld.sana import TextToLatent
from vhs.tinyworld.worlds import SANA

STAGE = "teacher"
FOLDER = recipe.CKPTS / "teacher"
"""Shipped with the latent probe, so that the student can be distilled again, and the teacher trained on."""
BATCH = 64
EARLY_WEIGHT = 1.0
"""The weight of block 7's predictions in the loss."""


def early_loss(probe, guess: torch.Tensor, logits: torch.Tensor, x0: torch.Tensor) -> torch.Tensor:
    """How far block 7 was off in predicting the sample (B, 16, 8, 8) and what the probe says of it."""
    agreement = latent_probe.agreement(logits.float(), latent_probe.read(probe, x0))
    return EARLY_WEIGHT * ((guess.float() - x0).square().mean() + agreement)


def flow_loss(model, probe, latents, ids, mask, empty, step: int, device: str) -> torch.Tensor:
    """Mean squared error of the velocity on one batch, and block 7's; the random draws are a function of `step`."""
    draw = torch.Generator().manual_seed(step)
    chosen = torch.randint(len(latents), (BATCH,), generator=draw)
    x0 = latents[chosen].float()
    z = torch.randn(x0.shape, generator=draw)
    s = torch.sigmoid(0.9 + 1.4 * torch.randn(BATCH, generator=draw))
    drop = torch.rand(BATCH, generator=draw) < 0.1
    batch_ids = torch.where(drop[:, None], empty[0], ids[chosen]).to(device)
    batch_mask = torch.where(drop[:, None], empty[1], mask[chosen]).to(device)
    blend = s.view(-1, 1, 1, 1)
    x = ((1 - blend) * x0 + blend * z).to(device)
    with recipe.autocast(device):
        velocity, guess, logits = model(x, s.to(device), batch_ids, batch_mask)
    error = (velocity.float() - (z - x0).to(device)).square().mean()
    return error + early_loss(probe, guess, logits, x0.to(device))


@torch.no_grad()
def sample(model, z: torch.Tensor, ids, mask, empty, *, steps: int, guided: int, scale: float) -> torch.Tensor:
    """Deterministic Euler sampling from noise z (B, 16, 8, 8); returns x0.

    Classifier-free guidance in the first `guided` steps only: low noise does not need it (Kynkäänniemi et al., 2024).
    """
    x, count = z, len(z)
    both_ids = torch.cat([ids, empty[0].expand(count, -1).to(ids)])
    both_mask = torch.cat([mask, empty[1].expand(count, -1).to(mask)])
    grid = torch.linspace(1, 0, steps + 1).tolist()
    for step, (now, then) in enumerate(pairwise(grid)):
        if step < guided:
            s = torch.full((2 * count,), now, device=z.device)
            told, untold = model(torch.cat([x, x]), s, both_ids, both_mask).float().chunk(2)
            velocity = untold + scale * (told - untold)
        else:
            velocity = model(x, torch.full((count,), now, device=z.device), ids, mask).float()
        x = x + (then - now) * velocity
    return x


def main() -> None:
    args = recipe.arguments(STAGE, steps=3_000, shipped="start from ckpts/tiny/teacher, not from nothing")
    torch.manual_seed(0)
    tokens = SANA.tokenizer()
    model = SANA.untrained().to(args.device)
    if args.shipped:
        model.load_state_dict(shipped(args.device))
    else:
        model.text_encoder.load_state_dict(text_encoder.load(args.device))
    latents, texts = latent_probe.cache_latents(args.device)
    distinct = sorted(set(texts))
    table = {text: i for i, text in enumerate(distinct)}
    rows = torch.tensor([table[text] for text in texts])
    ids, mask = (t[rows] for t in text_encoder.tokenize(tokens, distinct))
    empty = text_encoder.tokenize(tokens, [""])
    step_model, probe = torch.compile(model.with_early), latent_probe.load(args.device, sana.CHANNELS)

    def loss_of(step: int) -> torch.Tensor:
        return flow_loss(step_model, probe, latents, ids, mask, empty, step, args.device)

    muon = recipe.matrices_of(model.transformer.transformer_blocks)
    recipe.train(STAGE, model, loss_of, steps=args.steps, peak=1.5e-3, warmup=100, average=0.998, muon=muon)
    torch.save(model.state_dict(), recipe.WORK / STAGE / "model.pt")
    FOLDER.mkdir(parents=True, exist_ok=True)
    save_file({name: value.half() for name, value in model.state_dict().items()}, FOLDER / "model.safetensors")


def shipped(device: str) -> dict[str, torch.Tensor]:
    """The shipped teacher's state, in float32."""
    return {name: value.float() for name, value in load_file(FOLDER / "model.safetensors", device).items()}


def load(device: str) -> TextToLatent:
    """The trained teacher (averaged weights), from the work folder, or the shipped one."""
    model, path = SANA.untrained().to(device), recipe.WORK / STAGE / "model.pt"
    model.load_state_dict(
        torch.load(path, weights_only=True, map_location=device) if path.exists() else shipped(device)
    )
    return model.eval()


if __name__ == "__main__":
    recipe.command(main)
