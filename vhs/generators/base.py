"""What a generator is to the rest of the house: text, noise, a prefix of the network, its continuation, pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from vhs.errors import ConfigError
from vhs.records import Prefix, TextEmbedding

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image


@dataclass(frozen=True)
class GeneratorInfo:
    """A generator's sizes, known from its JSON files alone.

    `tokens` of `width` make one hidden state; `latent_shape` is (C, h, w); `image_size` is (height, width) of the
    pictures that `decode` returns; `steps` is the number of denoising steps of a run, `step` (from 1) the one whose
    hidden state is captured. `pipeline` is diffusers' class. `paths` are the modules that block 0, 1, ... are (empty:
    `transformer_blocks.0`, ...), `block` the one that the run's key `block` names (None: it names none).
    """

    blocks: int
    width: int
    tokens: int
    latent_shape: tuple[int, int, int]
    image_size: tuple[int, int]
    steps: int
    step: int
    device: str
    dtype: str
    pipeline: str = "SanaSprintPipeline"
    paths: tuple[str, ...] = ()
    block: int | None = None

    @property
    def parameters(self) -> int:
        """About how many the network has: 16 width^2 a block, the matrices of attention, cross-attention and MLP."""
        return 16 * self.blocks * self.width**2

    def path(self, block: int) -> str:
        """The path of modules that a block is."""
        return self.paths[block] if self.paths else f"transformer_blocks.{block}"

    def record(self, blocks: Sequence[int] = ()) -> dict[str, Any]:
        """What a verifier's checkpoint says of the generator that it was trained on; `blocks` where it reads any."""
        at = {"block": one_or_all(map(self.path, blocks)), "tokens": self.tokens, "width": self.width} if blocks else {}
        return {"pipeline": self.pipeline, **at, "step": self.step, "steps": self.steps}

    def require_reader(
        self, blocks: Sequence[int], width: int | None, trained_on: Mapping[str, Any] | None, cross: bool = False
    ) -> None:
        """Raises ConfigError unless hidden states of `blocks` are `width` wide together and the run's key `block` names
        no other one; `trained_on` is the `record` in a verifier's checkpoint, whose pipeline and block must be these
        unless `cross`."""
        if blocks:
            self.require_hidden(blocks, width)
            if self.block is not None and tuple(blocks) != (self.block,):
                names = "+".join(map(str, blocks))
                paths = ", ".join(map(self.path, blocks))
                raise ConfigError(f"block: names {self.path(self.block)}, the verifier reads hidden_{names} ({paths})")
        own = self.record(blocks)
        fixed = ("tokens", "width") if cross else ("pipeline", "block", "tokens", "width")
        apart = [key for key in fixed if own.get(key) != (trained_on or own).get(key)]
        if apart:
            differ = ", ".join(f"{key} {trained_on.get(key)} against {own.get(key)}" for key in apart)
            raise ConfigError(
                f"latent_verifier: was trained on another generator: {differ}; it recorded {dict(trained_on)}"
                + ("" if {"tokens", "width"} & set(apart) else "; cross_generator: true reads this one all the same")
            )

    def require_hidden(self, blocks: Sequence[int], width: int | None) -> None:
        """Raises ConfigError unless there are such blocks, whose outputs side by side are `width` wide."""
        for block in blocks:
            self.require_block(block)
        self.require_width(None if width is None else width // len(blocks))

    def require_block(self, block: int, key: str = "vision_tower") -> None:
        """Raises ConfigError, naming `key`, unless the transformer has block `block` (counted from 0)."""
        if not 0 <= block < self.blocks:
            raise ConfigError(
                f"{key}: block {block} is out of range; the generator has {self.blocks} blocks, 0 to {self.blocks - 1}"
            )

    def require_width(self, width: int, key: str = "vision_tower") -> None:
        """Raises ConfigError, naming `key`, unless a hidden state's tokens are `width` wide."""
        if width != self.width:
            raise ConfigError(
                f"{key}: the verifier reads hidden states of width {width}, the generator's have {self.width}; "
                "a verifier works with the generator it was trained on"
            )


def one_or_all(values: Iterable[Any]) -> Any:
    """The value itself of one, a list of several: a record of one block is as it has always been."""
    values = list(values)
    return values[0] if len(values) == 1 else values


def stopped_at(
    generator: Generator, noise: torch.Tensor, text: TextEmbedding, blocks: Sequence[int]
) -> tuple[torch.Tensor, Prefix]:
    """What a verifier of `blocks` reads, their outputs side by side in the channels (N, tokens, widths), and the prefix
    that ends at the last of them."""
    if len(blocks) == 1:
        prefix = generator.prefix(noise, text, blocks[0])
        return prefix.hidden, prefix
    import torch

    states, prefix = generator.hidden_states(noise, text, blocks)
    return torch.cat([states[block] for block in blocks], dim=-1), prefix


class Generator(Protocol):
    """Text, noise, a prefix of the network, its continuation, pictures. Latents are float32; noise is unit normal and
    lives on the CPU. `micro_batch` candidates go through a network at once (None: all). One that `mixes_prompts` also
    takes a text for each candidate (`TextEmbedding.of_each`)."""

    info: GeneratorInfo
    micro_batch: int | None
    mixes_prompts: bool

    def encode(self, prompts: Sequence[str]) -> list[TextEmbedding]:
        """One embedding per prompt, computed prompt by prompt, so that it does not depend on the others."""

    def noise(self, seeds: Sequence[int]) -> torch.Tensor:
        """Candidates' noise: (N, C, h, w) for one step, (N, steps, C, h, w) for more (see `seeding.seeded_noise`)."""

    def prefix(self, noise: torch.Tensor, text: TextEmbedding, block: int = 7) -> Prefix:
        """Runs N candidates up to and including `block` of the configured step and stops there."""

    def hidden_states(
        self, noise: torch.Tensor, text: TextEmbedding, blocks: Sequence[int]
    ) -> tuple[dict[int, torch.Tensor], Prefix]:
        """Hidden states (N, tokens, width) of several blocks from one pass, and the prefix that ends at the last."""

    def finish(self, prefix: Prefix) -> torch.Tensor:
        """Continues from the captured state to the final latents (N, C, h, w)."""

    def generate(self, noise: torch.Tensor, text: TextEmbedding) -> torch.Tensor:
        """The final latents (N, C, h, w) without a stop on the way."""

    def decode(self, latents: torch.Tensor) -> list[Image]:
        """Pictures of final latents. Raises FloatingPointError where a pixel is not finite."""
