"""Candidates of several prompts in one pass of the generator: noises, texts, how many prompts go together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from vhs.records import Prompt, TextEmbedding
from vhs.seeding import candidate_seed

if TYPE_CHECKING:
    import torch

    from vhs.generators.base import Generator

Pair = tuple[Prompt, int]
"""A prompt and the number of one of its candidates."""


def noise_of(generator: Generator, pairs: Sequence[Pair], seed: int) -> torch.Tensor:
    """The candidates' noises, as `generator.noise` gives them: they depend on (seed, prompt id, candidate) alone."""
    return generator.noise([candidate_seed(seed, prompt.id, candidate) for prompt, candidate in pairs])


def text_of(texts: Sequence[TextEmbedding]) -> TextEmbedding:
    """The text of candidates that have `texts`: one where all have the same, as a pass over one prompt has it."""
    return texts[0] if all(text is texts[0] for text in texts) else TextEmbedding.of_each(texts)


def groups(generator: Generator, prompts: Sequence[int], candidates: int) -> Iterator[list[int]]:
    """The positions `prompts`, as many together as fill a micro-batch with `candidates` of each."""
    size = generator.micro_batch // candidates if generator.mixes_prompts and generator.micro_batch else 1
    for start in range(0, len(prompts), max(1, size)):
        yield list(prompts[start : start + max(1, size)])
