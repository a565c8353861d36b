"""A scene drawn with words: 8 x 8 cells in reading order, each a weighted sum of a few words' embeddings.

It is what a good connector could say of a picture's 64 tokens. A language model that has answered questions about such
grids knows how to look at a picture before it sees a picture's features; one that has only read sentences does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from vhs.tinyworld.drawing import covered
from vhs.tinyworld.scenes import SHAPES, SIZE, Scene, place_in_words

SIDE = 8
CELL = SIZE / SIDE
WORDS = 5
"""Words a cell: row, column, shape, colour, and a shape that it might be taken for."""


@dataclass(frozen=True)
class Words:
    """A sequence of T tokens, each the sum of `WORDS` words: their ids and their weights, both (T, WORDS)."""

    ids: np.ndarray
    weights: np.ndarray

    @classmethod
    def of_text(cls, tokens: list[int]) -> Words:
        """Each token is itself."""
        ids, weights = np.zeros((len(tokens), WORDS), dtype=np.int64), np.zeros((len(tokens), WORDS), dtype=np.float32)
        ids[:, 0], weights[:, 0] = tokens, 1
        return cls(ids, weights)


def draw(scene: Scene, token: Callable[[str], int], rng: np.random.Generator) -> Words:
    """The 64 cells of a scene; `token` gives a word's id.

    A cell says its place ("top left"), and the shape and the colour of the object whose radius covers its centre. How
    clearly it says each is random, and an object may look a little like another shape.
    """
    ids = np.zeros((SIDE, SIDE, WORDS), dtype=np.int64)
    weights = np.zeros((SIDE, SIDE, WORDS), dtype=np.float32)
    for i in range(SIDE):
        across, down = place_in_words((i + 0.5) * CELL, (i + 0.5) * CELL)
        ids[i, :, 0], ids[:, i, 1] = token(down), token(across)
    weights[..., :2] = rng.uniform(0.1, 0.6)
    for obj in scene.objects:
        inside = covered(obj, SIDE)
        similar = SHAPES[rng.integers(len(SHAPES))]
        ids[inside, 2:] = [token(obj.shape), token(obj.color), token(similar)]
        weights[inside, 2:] = [*rng.uniform(0.3, 0.8, size=2), rng.uniform(0, 0.2)]
    weights[..., 2:] *= rng.uniform(0.5, 1.3, size=(SIDE, SIDE, 1))
    return Words(ids.reshape(-1, WORDS), weights.reshape(-1, WORDS))


def embed(embedding: torch.nn.Embedding, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Ids and weights (B, T, WORDS) -> (B, T, D)."""
    flat = F.embedding_bag(ids.flatten(0, 1), embedding.weight, per_sample_weights=weights.flatten(0, 1), mode="sum")
    return flat.view(*ids.shape[:2], -1)
