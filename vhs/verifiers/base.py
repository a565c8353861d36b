"""What best-of-N asks of a verifier, and the two verifiers that read nothing.

A verifier says in `reads` which stage of the generator it looks at, so that no stage runs that nobody reads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from vhs.records import Prompt, Score

if TYPE_CHECKING:
    import torch

Reads = Literal["hidden", "latent", "image", "nothing"]


class Verifier(Protocol):
    """Scores N candidates of one prompt.

    `block` is the transformer block whose output is read (hidden only), of several in `blocks` the last; `width` the
    channels of a token (hidden, latent), of all blocks together; `micro_batch` how many candidates go through one
    forward pass (None: all), which changes no score but by rounding. One that has `independent` set to true scores a
    candidate whatever the others are: it may be given the candidates of a prompt in several calls.
    """

    reads: Reads
    block: int | None
    width: int | None
    micro_batch: int | None

    def score(self, prompt: str, features: Any) -> Score:
        """Scores of N candidates; `features` are hidden states (N, tokens, width), latents (N, c, h, w), N pictures,
        or, where nothing is read, the number N."""
        ...


def blocks_of(verifier: Any) -> tuple[int, ...]:
    """The blocks whose outputs a verifier (or its spec) reads side by side: its `blocks`, or its one `block`."""
    return getattr(verifier, "blocks", ()) or (() if verifier.block is None else (verifier.block,))


def reading(verifier: Any) -> dict[str, Any]:
    """What a record says that a verifier (or its spec) reads; `blocks` where it is more than one."""
    blocks = blocks_of(verifier)
    several = {"blocks": list(blocks)} if len(blocks) > 1 else {}
    return {"reads": verifier.reads, "block": verifier.block, **several}


def ask(verifier: Verifier, prompt: Prompt, features: Any) -> Score:
    """Scores of N candidates of a prompt; a verifier with `score_prompt`, which looks scores up by the prompt's number,
    is given the whole prompt."""
    by_number = getattr(verifier, "score_prompt", None)
    return by_number(prompt, features) if by_number else verifier.score(prompt.text, features)


class Reader(Protocol):
    """Turns what a generator gives into the tokens that a connector takes."""

    reads: Reads
    block: int | None
    width: int | None

    def check(self, features: Any) -> int:
        """The number of candidates in `features`; raises CheckpointError where they do not fit this verifier."""
        ...

    def __call__(self, features: Any) -> torch.Tensor:
        """Tokens (N, tokens, width), or a grid (N, c, h, w) for a connector that convolves, before any cast."""
        ...


class NoVerifier:
    """Best-of-N without a verifier: every candidate ties, so the tie rule decides (the first candidate)."""

    reads: Reads = "nothing"
    block = None
    width = None
    micro_batch = None

    def score(self, prompt: str, features: int | Sequence[Any]) -> Score:
        import torch

        count = _count(features)
        return _answers(torch.full((count,), 0.5))


class RandomVerifier(NoVerifier):
    """A baseline: p("yes") is uniform in [0, 1), a function of (seed, prompt, candidate index) alone."""

    def __init__(self, seed: int = 0):
        self.seed = seed

    def score(self, prompt: str, features: int | Sequence[Any]) -> Score:
        import torch

        draws = [self._draw(prompt, candidate) for candidate in range(_count(features))]
        return _answers(torch.tensor(draws, dtype=torch.float32))

    def _draw(self, prompt: str, candidate: int) -> float:
        digest = hashlib.sha256(f"{self.seed}\n{candidate}\n{prompt}".encode()).digest()
        return int.from_bytes(digest[:3], "big") / 2**24


def _count(features: int | Sequence[Any]) -> int:
    return features if isinstance(features, int) else len(features)


def _answers(p_yes: torch.Tensor) -> Score:
    """A two-word vocabulary: every candidate says yes, with the given probability as its score."""
    return Score(p_yes=p_yes, p_no=1 - p_yes, correct=p_yes >= 0, score=p_yes)
