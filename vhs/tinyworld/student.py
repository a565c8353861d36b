"""The one-step student, by regression on pairs of noise and sample.

The first world's pairs are its teacher's: the deterministic sampler (6 Euler steps, classifier-free guidance 4 in the
first 4) maps noise z to a sample x0; the student starts from the teacher's weights and learns the velocity z - x0 at
s = 1 (t = pi/2). The guidance is thereby baked in. The second world's pairs are what the first world's student makes of
the same noise in one step; its student starts from nothing but a text encoder that can read, and takes its step at
PixArt-alpha-DMD's timestep 400. The result is written as a pipeline folder.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm import tqdm

from vhs.records import TAGS
from vhs.tinyworld import autoencoder, latent_probe, recipe, teacher, text_encoder
from vhs.tinyworld.scenes import TAG_WEIGHTS, records
from vhs.tinyworld.tokenizers import captions
from vhs.tinyworld.worlds import SANA, WORLDS, World

STAGE = "student"
PER_SHARD, SAMPLED = 512, 64
EULER_STEPS, GUIDED_STEPS, GUIDANCE_SCALE = 6, 4, 4.0
HELD_OUT = 256
"""The last pairs, which measure only."""
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


Sampler = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def teachers_sampler(device: str) -> Sampler:
    """Several guided steps of the first world's teacher."""
    fast, empty = torch.compile(teacher.load(device)), text_encoder.tokenize(SANA.tokenizer(), [""])
    steps = {"steps": EULER_STEPS, "guided": GUIDED_STEPS, "scale": GUIDANCE_SCALE}
    return lambda z, ids, mask: teacher.sample(fast, z, ids, mask, empty, **steps)


def students_sampler(device: str) -> Sampler:
    """The one step of the first world's shipped student."""
    model = load(SANA).to(device)
    return lambda z, ids, mask: model.one_step(z, ids, mask)[0]


@torch.no_grad()
def make_pairs(device: str, world: World = SANA) -> None:
    """The samples that the student learns from, one file a shard; finished shards are kept."""
    sampler = students_sampler(device) if world.taught else teachers_sampler(device)
    folder = recipe.WORK / world.stage(STAGE)
    folder.mkdir(parents=True, exist_ok=True)
    for shard in tqdm(range(world.shards), desc="pairs", mininterval=10):
        path = folder / f"pairs_{shard:03d}.safetensors"
        if path.exists():
            continue
        ids, mask = (t.to(device) for t in text_encoder.tokenize(SANA.tokenizer(), captions_of_shard(shard)))
        z, parts = noise_of_shard(shard).to(device), []
        for part in torch.arange(PER_SHARD).split(SAMPLED):
            with recipe.autocast(device):
                parts.append(sampler(z[part], ids[part], mask[part]).float())
        save_file({"x0": torch.cat(parts).cpu().half()}, path.with_suffix(".partial"))
        path.with_suffix(".partial").replace(path)


def read_pairs(world: World = SANA) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Noise, samples (both (n, 16, 8, 8)) and captions of all shards."""
    folder = recipe.WORK / world.stage(STAGE)
    shards = range(world.shards)
    samples = [load_file(folder / f"pairs_{shard:03d}.safetensors")["x0"].float() for shard in shards]
    texts = [text for shard in shards for text in captions_of_shard(shard)]
    return torch.cat([noise_of_shard(shard) for shard in shards]), torch.cat(samples), texts


def loss(one_step, side, z, x0, ids, mask, batch: int, step: int, device: str) -> torch.Tensor:
    """Mean squared error of the one-step sample, plus `side` of what a block foretells."""
    chosen = torch.randint(len(z), (batch,), generator=torch.Generator().manual_seed(step))
    noise, target = z[chosen].to(device), x0[chosen].to(device)
    with recipe.autocast(device):
        found, *early = one_step(noise, ids[chosen].to(device), mask[chosen].to(device))
    error = (found.float() - target).square().mean()
    return error + side(*early, target) if side else error


@torch.no_grad()
def held_out_errors(model: nn.Module, side, z, x0, ids, mask, device: str) -> dict[str, float]:
    """Of pairs that were not trained on: the sample's mean squared error, and what a block foretells of it."""
    target = x0.to(device)
    found, *early = model.one_step(z.to(device), ids.to(device), mask.to(device))
    figures = {"held_out_mse": (found - target).square().mean()}
    if side:
        guess, logits = early
        probe = latent_probe.load(device, LATENT[0])
        figures["held_out_early_mse"] = (guess - target).square().mean()
        figures["held_out_early_reading"] = latent_probe.agreement(logits, latent_probe.read(probe, target))
    return {name: round(value.item(), 5) for name, value in figures.items()}


def save(model: nn.Module, world: World) -> None:
    """Write the pipeline beside the autoencoder, weights in float16."""
    vae = autoencoder.load(world=world)
    tokenizer = world.make_tokenizer(captions())  # not the shared one, whose file would say how it padded last
    model.half().pipeline(tokenizer, vae.half()).save_pretrained(world.folder)


def load(world: World) -> nn.Module:
    """The shipped student in float32, without the autoencoder."""
    model = world.untrained()
    files = {"text_encoder": "model.safetensors", "transformer": "diffusion_pytorch_model.safetensors"}
    for part, file in files.items():
        state = {name: value.float() for name, value in load_file(world.folder / part / file).items()}
        getattr(model, part).load_state_dict(state, strict=part == "transformer")
    return model.eval().requires_grad_(False)


def table(world: World, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask of every caption, (n, 16) each."""
    distinct = sorted(set(texts))
    row = {text: i for i, text in enumerate(distinct)}
    rows = torch.tensor([row[text] for text in texts])
    ids, mask = text_encoder.tokenize(world.tokenizer(), distinct)
    return ids[rows], mask[rows]


def start(world: World, device: str) -> nn.Module:
    """What the student is before it trains."""
    if not world.taught:
        return teacher.load(device).train()
    torch.manual_seed(0)
    model = world.untrained().to(device)
    model.text_encoder.load_state_dict(text_encoder.load(device, world))
    return model


def main() -> None:
    args = recipe.arguments(STAGE, None, WORLDS)
    world = WORLDS[args.world]
    stage, steps, batch = world.stage(STAGE), args.steps or world.steps[STAGE], world.batches[STAGE]
    make_pairs(args.device, world)
    z, x0, texts = read_pairs(world)
    ids, mask = table(world, texts)
    model = start(world, args.device)
    side = partial(teacher.early_loss, latent_probe.load(args.device, LATENT[0])) if world.foretells else None
    pairs, held = (tuple(t[part] for t in (z, x0, ids, mask)) for part in (slice(-HELD_OUT), slice(-HELD_OUT, None)))
    one_step = world.compiled(model.one_step)

    def evaluate(step: int) -> dict[str, float]:
        return held_out_errors(model, side, *held, args.device)

    muon = recipe.matrices_of(model.transformer.transformer_blocks)
    recipe.train(
        stage, model, lambda step: loss(one_step, side, *pairs, batch, step, args.device), steps=steps, peak=world.peak,
        warmup=50, average=0.998, muon=muon, evaluate=evaluate, evaluate_every=250,
    )  # fmt: skip
    recipe.log(stage, **{f"final_{name}": value for name, value in evaluate(steps).items()})
    save(model.eval().cpu(), world)


if __name__ == "__main__":
    recipe.command(main)
