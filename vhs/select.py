"""Choosing among scored candidates. Pure functions; every one states what happens on equal scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vhs.records import Selection


def argmax(scores: Sequence[float], tie: str = "first") -> Selection:
    """The highest score; of equal ones the first, or the last for `tie="last"`."""
    best = max(scores)
    winners = [index for index, score in enumerate(scores) if score == best]
    return Selection(winners[0] if tie == "first" else winners[-1], tied=len(winners))


def top_k(scores: Sequence[float], k: int) -> list[int]:
    """Indices of the k highest scores, best first; of equal ones the lowest index first."""
    assert 1 <= k <= len(scores), "k lies between 1 and the number of candidates"
    return sorted(range(len(scores)), key=lambda index: (-scores[index], index))[:k]


def tournament(scores: Sequence[float], k: int = 1) -> list[int]:
    """Adjacent pairs play until k are left (VISA): the best of each contiguous N/k group, not the global top k.

    N/k is a power of two. The second of a pair wins a tie.
    """
    rounds, rest = divmod(len(scores), k)
    assert rest == 0 and rounds & (rounds - 1) == 0, "N/k is a power of two"
    left = list(range(len(scores)))
    while len(left) > k:
        pairs = [left[i : i + 2] for i in range(0, len(left), 2)]
        left = [max(pair, key=lambda index: (scores[index], index)) for pair in pairs]
    return left


def random_yes(correct: Sequence[bool], seed: int) -> Selection:
    """Any candidate whose answer is yes, or any at all where none is (the paper's ablation without scores).

    The draw is a function of `seed` alone.
    """
    pool = [index for index, yes in enumerate(correct) if yes] or list(range(len(correct)))
    return Selection(pool[int(np.random.default_rng(seed).integers(len(pool)))], tied=len(pool))
