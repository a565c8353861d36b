"""Stage 8: the one-step student, by regression on the teacher's own noise-to-sample pairs.

The teacher's deterministic sampler (6 Euler steps, classifier-free guidance 4 in the first 4) maps noise z to a sample
x0; the student starts from the teacher's weights and learns, at s = 1 (t = pi/2), the velocity z - x0. The guidance is
thereby baked in. The result is written as a `SanaSprintPipeline` folder.
"""

from __future__ import annotations

import numpy as np
import torch
from diffusers import SanaSprintPipeline, SCMScheduler
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from vhs.records import TAGS
from vhs.tinyworld import autoencoder, latent_probe, recipe, teacher, text_encoder
from vhs.tinyworld.scenes import TAG_WEIGHTS, records

STAGE = "student"
SHARDS, PER_SHARD = 24, 512
EULER_STEPS, GUIDED_STEPS, GUIDANCE_SCALE = 6, 4, 4.0
BATCH = 64
LATENT = (16, 8, 8)


def captions_of_shard(shard: int) -> list[str]:
    """Training captions, tags in the teacher's proportions."""
    rng = np.random.default_rng([shard, 13])
    weights = np.array([TAG_WEIGHTS[tag] for tag in TAGS], dtype=float)
    by_tag = [records(tag, "train") for tag in TAGS]
    tags = rng.choice(len(TAGS), size=PER_SHARD, p=weights / weights.sum())
    return [by_tag[tag][rng.integers(len(by_tag[tag]))]["prompt"] for tag in tags]


def noise_of_shard(shard: int) -> torch.Tensor:
    """(PER_SHARD, 16, 8, 8) unit normal."""
    return torch.randn((PER_SHARD, *LATENT), generator=torch.Generator().manual_seed(1_000_003 * (shard + 1)))


def make_pairs(device: str, first: int = 0, stride: int = 1) -> None:
    """The teacher's samples for the shards first, first + stride, ..., one file each; finished shards are kept."""
    model, tokens = teacher.load(device), text_encoder.tokenizer()
    empty = text_encoder.tokenize(tokens, [""])
    fast = torch.compile(model)
    folder = recipe.WORK / STAGE
    folder.mkdir(parents=True, exist_ok=True)
    for shard in tqdm(range(first, SHARDS, stride), desc="teacher's samples", mininterval=10):
        path = folder / f"pairs_{shard:03d}.safetensors"
        if path.exists():
            continue
        ids, mask = (t.to(device) for t in text_encoder.tokenize(tokens, captions_of_shard(shard)))
        z, parts = noise_of_shard(shard).to(device), []
        for part in torch.arange(PER_SHARD).split(BATCH):
            with recipe.autocast(device):
                x0 = teacher.sample(
                    fast,
                    z[part],
                    ids[part],
                    mask[part],
                    empty,
                    steps=EULER_STEPS,
                    guided=GUIDED_STEPS,
                    scale=GUIDANCE_SCALE,
                )
            parts.append(x0.float())
        save_file({"x0": torch.cat(parts).cpu().half()}, path.with_suffix(".partial"))
        path.with_suffix(".partial").replace(path)


def read_pairs() -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Noise, samples (both (n, 16, 8, 8)) and captions of all shards."""
    folder = recipe.WORK / STAGE
    samples = [load_file(folder / f"pairs_{shard:03d}.safetensors")["x0"].float() for shard in range(SHARDS)]
    texts = [text for shard in range(SHARDS) for text in captions_of_shard(shard)]
    return torch.cat([noise_of_shard(shard) for shard in range(SHARDS)]), torch.cat(samples), texts


def loss(model, probe, z, x0, ids, mask, step: int, device: str) -> torch.Tensor:
    """Mean squared error of the one-step sample z - v, and how far block 7 was off."""
    chosen = torch.randint(len(z), (BATCH,), generator=torch.Generator().manual_seed(step))
    noise, target = z[chosen].to(device), x0[chosen].to(device)
    ones = torch.ones(BATCH, device=device)
    with recipe.autocast(device):
        velocity, guess, logits = model(noise, ones, ids[chosen].to(device), mask[chosen].to(device))
    error = (noise - velocity.float() - target).square().mean()
    return error + teacher.early_loss(probe, guess, logits, target)


def save(model: teacher.TextToLatent) -> None:
    """Write the pipeline beside the autoencoder, weights in float16."""
    folder = recipe.CKPTS / "sana_sprint"
    pipeline = SanaSprintPipeline(
        tokenizer=text_encoder.tokenizer(), text_encoder=model.text_encoder.half(), vae=autoencoder.load().half(),
        transformer=model.transformer.half(), scheduler=SCMScheduler(),
    )  # fmt: skip
    pipeline.save_pretrained(folder)


def main() -> None:
    args = recipe.arguments(STAGE, steps=1000)
    make_pairs(args.device)
    z, x0, texts = read_pairs()
    tokens = text_encoder.tokenizer()
    table = {text: i for i, text in enumerate(sorted(set(texts)))}
    rows = torch.tensor([table[text] for text in texts])
    ids, mask = (t[rows] for t in text_encoder.tokenize(tokens, list(table)))
    model = teacher.load(args.device).train()
    held = slice(len(z) - 256, len(z))  # the last pairs, which `loss_of` leaves out

    probe = latent_probe.load(args.device, LATENT[0])

    @torch.no_grad()
    def evaluate(step: int) -> dict[str, float]:
        target, noise = x0[held].to(args.device), z[held].to(args.device)
        ones = torch.ones(len(noise), device=args.device)
        velocity, guess, logits = model.with_early(noise, ones, ids[held].to(args.device), mask[held].to(args.device))
        errors = {"held_out_mse": noise - velocity - target, "held_out_early_mse": guess - target}
        said = latent_probe.agreement(logits, latent_probe.read(probe, target))
        return {name: round(error.square().mean().item(), 5) for name, error in errors.items()} | {
            "held_out_early_reading": round(said.item(), 5)
        }

    step_model = torch.compile(model.with_early)

    def loss_of(step: int) -> torch.Tensor:
        return loss(step_model, probe, z[:-256], x0[:-256], ids, mask, step, args.device)

    muon = recipe.matrices_of(model.transformer.transformer_blocks)
    recipe.train(
        STAGE, model, loss_of, steps=args.steps, peak=8e-4, warmup=50, average=0.998, muon=muon, evaluate=evaluate,
        evaluate_every=250,
    )  # fmt: skip
    recipe.log(STAGE, **{f"final_{name}": value for name, value in evaluate(args.steps).items()})
    save(model.eval().cpu())


if __name__ == "__main__":
    main()
