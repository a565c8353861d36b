"""The two tiny worlds, as what differs between them. Scenes, judges and language model are the same.

`sana` is the first: a SANA-Sprint miniature whose block 7 was made readable. `pixart` is a PixArt-alpha-DMD miniature
in which no block was trained to foretell anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from vhs.tinyworld import pixart, recipe, sana
from vhs.tinyworld.tokenizers import captions, gemma_tokenizer, t5_tokenizer


@dataclass(frozen=True)
class World:
    """What one world has of its own."""

    name: str
    prefix: str
    """Stands before its stages' names, in folders, seeds and logs."""
    folder: Path
    """Where its one-step pipeline is shipped."""
    autoencoder: Callable[[], nn.Module]
    text_encoder: Callable[[int], nn.Module]
    """From the size of the vocabulary."""
    text_to_latent: Callable[[int], nn.Module]
    """Text encoder and denoiser: `one_step` gives the student's sample, and behind it, where a block `foretells` the
    sample, that block's predictions."""
    make_tokenizer: Callable[[list[str]], PreTrainedTokenizerBase]
    foretells: bool
    """Whether a block is trained to predict the sample and what the latent probe will say of it."""
    taught: bool
    """Whether it learns from the first world: its autoencoder the latents, its student what the student there draws
    from the same noise. The first world's student has a teacher of its own."""
    batches: dict[str, int]
    """Of each stage that has a batch of its own."""
    steps: dict[str, int]
    """Optimiser steps of each stage."""
    compiles: bool
    """Whether compiling the denoiser pays on a CPU."""
    peak: float
    """The student's highest learning rate."""
    shards: int
    """Of 512 pairs of noise and the teacher's sample."""
    run: str
    """The run whose generator and judge the candidates are of."""
    blocks: tuple[int, ...]
    """Whose hidden states are collected, beside final latents and CLIP features."""
    prompts: int
    """Of the training candidates, 8 each."""
    held_out_prompts: int
    """To evaluate on, 8 candidates each."""
    block: int
    """Which its shipped verifier of hidden states reads."""
    statistics: Path
    """Folder of the hidden states' statistics."""

    def verifier(self, feature: str) -> Path:
        """Where the shipped verifier of a feature is."""
        return recipe.CKPTS / f"{self.prefix.replace('/', '_')}verifier_{feature}"

    def stage(self, name: str) -> str:
        """A stage's name in this world."""
        return self.prefix + name

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer every stage shares."""
        return _tokenizer(self.name)

    def compiled(self, function: Callable) -> Callable:
        """The denoiser's function as training calls it."""
        return torch.compile(function) if self.compiles else function

    def untrained(self) -> nn.Module:
        """Text encoder and denoiser."""
        return self.text_to_latent(len(self.tokenizer()))


@cache
def _tokenizer(name: str) -> PreTrainedTokenizerBase:
    return WORLDS[name].make_tokenizer(captions())


SANA = World(
    name="sana", prefix="", folder=recipe.CKPTS / "sana_sprint", autoencoder=sana.autoencoder,
    text_encoder=sana.text_encoder, text_to_latent=sana.TextToLatent, make_tokenizer=gemma_tokenizer, foretells=True,
    taught=False, batches={"autoencoder": 32, "student": 64},
    steps={"autoencoder": 1600, "student": 1000}, compiles=True, peak=8e-4, shards=24,
    run="configs/tiny.yaml", blocks=(1, 5, 7, 9, 19), prompts=5200,
    held_out_prompts=1200, block=7, statistics=recipe.CKPTS / "normalization",
)  # fmt: skip
PIXART = World(
    name="pixart", prefix="pixart/", folder=recipe.CKPTS / "pixart_dmd", autoencoder=pixart.autoencoder,
    text_encoder=pixart.text_encoder, text_to_latent=pixart.TextToLatent, make_tokenizer=t5_tokenizer, foretells=False,
    taught=True, batches={"autoencoder": 16, "student": 32},
    steps={"autoencoder": 1500, "student": 2600}, compiles=False, peak=2e-3, shards=40,
    run="configs/tiny_pixart.yaml", blocks=tuple(range(pixart.BLOCKS)), prompts=4000,
    held_out_prompts=300, block=5,
    statistics=recipe.CKPTS / "pixart_normalization",
)  # fmt: skip
WORLDS = {world.name: world for world in (SANA, PIXART)}
