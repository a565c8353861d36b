"""Choosing among scored candidates. Pure functions; every one states what happens on equal scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from vhs.records import Selection

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Rule:
    """How the picks follow from scores: the configuration's `selection`. `k` candidates are kept."""

    name: Literal["argmax", "random_yes", "top_k", "tournament"] = "argmax"
    k: int = 1


def argmax(scores: Sequence[float], tie: str = "first") -> Selection:
    """The highest score; of equal ones the first, or the last for `tie="last"`."""
    best = max(scores)
    winners = [index for index, score in enumerate(scores) if score == best]
    return Selection(winners[0] if tie == "first" else winners[-1], tied=len(winners))


def top_k(scores: Sequence[float], k: int, tie: str = "first") -> list[int]:
    """Indices of the k highest scores, best first; of equal ones the lowest index first, or the highest for
    `tie="last"`."""
    assert 1 <= k <= len(scores)
    indices = range(len(scores)) if tie == "first" else reversed(range(len(scores)))
    return sorted(indices, key=lambda index: -scores[index])[:k]  # equal ones stay in this order


@dataclass(frozen=True)
class Bracket:
    """A tournament's outcome: the winner of each of k contiguous groups, in order, and per candidate the games won."""

    winners: list[int]
    won: list[int]


def tournament(count: int, k: int, first_wins: Callable[[int, int], bool]) -> Bracket:
    """Adjacent pairs of `count` candidates play until k are left (VISA, SANA-1.5): the best of each contiguous N/k
    group, not the global top k.

    `first_wins(a, b)` says whether candidate a beats candidate b; N/k is a power of two (`plays`).
    """
    assert plays(count, k)
    left, won = list(range(count)), [0] * count
    while len(left) > k:
        # Neighbours play, so that a group of N/k contiguous candidates sends one winner: VISA's own bracket.
        left = [a if first_wins(a, b) else b for a, b in zip(left[::2], left[1::2], strict=True)]
        for index in left:
            won[index] += 1
    return Bracket(left, won)


def by_score(scores: Sequence[float]) -> Callable[[int, int], bool]:
    """The higher score wins a game, and the second of the pair a tie.

    On signed scores this is VISA's rule: of two yes the higher p(yes) wins, of two no the lower p(no), else the yes.
    """
    return lambda a, b: scores[a] > scores[b]


def plays(count: int, k: int) -> bool:
    """A tournament of `count` candidates can leave k: count/k is a power of two."""
    return k > 0 and count % k == 0 and (count // k).bit_count() == 1


def random_yes(correct: Sequence[bool], seed: int) -> Selection:
    """Any candidate whose answer is yes, or any at all where none is (the paper's ablation without scores).

    The draw is a function of `seed` alone.
    """
    import numpy as np

    pool = [index for index, yes in enumerate(correct) if yes] or list(range(len(correct)))
    return Selection(pool[int(np.random.default_rng(seed).integers(len(pool)))], tied=len(pool))


def ranks(scores: Sequence[float]) -> np.ndarray:
    """(N,) float64 from 0 (worst) to N - 1: how many candidates each one beats, a tie counting half."""
    import numpy as np

    values = np.asarray(scores)
    beaten = (values[:, None] > values[None, :]).sum(axis=1)
    tied = (values[:, None] == values[None, :]).sum(axis=1) - 1
    return beaten + tied / 2


def ensemble(scores: Sequence[Sequence[float]], mean: str = "ranks") -> np.ndarray:
    """(N,) float64: of several verifiers' scores of the same N candidates, the mean of `ranks`, which needs no common
    scale, or of the scores themselves (`mean="scores"`)."""
    import numpy as np

    return np.mean([ranks(row) for row in scores] if mean == "ranks" else scores, axis=0)
