"""What a generator is to the rest of the house: text, noise, a prefix of the network, its continuation, pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

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
    hidden state is captured.
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


class Generator(Protocol):
    """Text, noise, a prefix of the network, its continuation, pictures. Latents are float32; noise is unit normal and
    lives on the CPU. `micro_batch` candidates go through a network at once (None: all)."""

    info: GeneratorInfo
    micro_batch: int | None

    def encode(self, prompts: Sequence[str]) -> list[TextEmbedding]:
        """One embedding per prompt, computed prompt by prompt, so that it does not depend on the others."""

    def noise(self, seeds: Sequence[int]) -> torch.Tensor:
        """Candidates' noise: (N, C, h, w) for one step, (N, steps, C, h, w) for more (see `seeding.seeded_noise`)."""

    def prefix(self, noise: torch.Tensor, text: TextEmbedding, block: int = 7) -> Prefix:
        """Runs N candidates up to and including `block` of the configured step and stops there."""

    def finish(self, prefix: Prefix) -> torch.Tensor:
        """Continues from the captured state to the final latents (N, C, h, w)."""

    def generate(self, noise: torch.Tensor, text: TextEmbedding) -> torch.Tensor:
        """The final latents (N, C, h, w) without a stop on the way."""

    def decode(self, latents: torch.Tensor) -> list[Image]:
        """Pictures of final latents."""
