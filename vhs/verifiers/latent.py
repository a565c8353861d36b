"""Verifiers on the final latent: what the autoencoder would decode, flattened over space."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vhs.errors import CheckpointError
from vhs.verifiers.base import Reads


def flatten_latents(latents: torch.Tensor) -> torch.Tensor:
    """Latents (N, c, h, w) as tokens (N, h * w, c), row by row."""
    return latents.flatten(2).transpose(1, 2)


@dataclass
class LatentReader:
    """Latents (N, width, h, w), as tokens, or as they are for a connector that takes the grid."""

    width: int
    as_grid: bool = False
    block: int | None = None
    reads: Reads = "latent"

    def check(self, features: torch.Tensor) -> int:
        if not isinstance(features, torch.Tensor) or features.ndim != 4 or features.shape[1] != self.width:
            got = tuple(features.shape) if isinstance(features, torch.Tensor) else type(features).__name__
            raise CheckpointError(f"verifier: reads latents (N, {self.width}, h, w); got {got}")
        return len(features)

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        return features if self.as_grid else flatten_latents(features)
