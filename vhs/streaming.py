"""Candidates that stream through a verifier: of those seen, every score is kept and the states of the best alone.

A state is what a candidate's picture is made from: a captured prefix, a latent, a picture. So memory does not grow with
the number of candidates, and a prompt can end before its last one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vhs import select
from vhs.records import Score


@dataclass(frozen=True)
class Stop:
    """A prompt ends with the first candidate by which one of at least `least` has scored `at` or more."""

    at: float
    least: int = 1

    def after(self, scores: Sequence[float]) -> int | None:
        """How many of these candidates the prompt needs; None where they do not end it."""
        reached = next((index for index, score in enumerate(scores) if score >= self.at), None)
        if reached is None:
            return None
        needed = max(reached + 1, self.least)
        return needed if needed <= len(scores) else None


class Best:
    """The scores of the candidates so far, and the states of the `keep` best (of equal ones by the tie rule)."""

    def __init__(self, keep: int, tie: str = "first", stop: Stop | None = None) -> None:
        self.keep, self.tie, self.stop = keep, tie, stop
        self._scores: list[Score] = []
        self._values: list[float] = []
        self._kept: list[int] = []
        self._states: Any = None

    @property
    def score(self) -> Score:
        """Of every candidate that counts, in their order."""
        return Score.cat(self._scores)

    def __len__(self) -> int:
        return len(self._values)

    def add(self, score: Score, states: Any) -> bool:
        """Takes the next candidates; true where the prompt ends with them. Those after its end are dropped, so that
        it does not depend on how many came at once."""
        first, values = len(self), score.score.tolist()
        end = self.stop.after([*self._values, *values]) if self.stop else None
        new = len(values) if end is None else end - first
        self._scores.append(score[:new])
        self._values += values[:new]
        former, known = self._kept, [*self._kept, *range(first, first + new)]
        places = select.top_k([self._values[index] for index in known], min(self.keep, len(known)), self.tie)
        self._kept = sorted(known[place] for place in places)
        old = [place for place, index in enumerate(former) if index in self._kept]
        parts = [rows(self._states, old)] if old else []
        if fresh := [index - first for index in self._kept if index >= first]:
            parts.append(rows(states, fresh))
        self._states = joined(parts) if fresh or len(old) < len(former) else self._states
        return end is not None

    def states(self, wanted: Sequence[int]) -> Any:
        """The states of candidates among the best, in the order asked for."""
        return rows(self._states, [self._kept.index(index) for index in wanted])


def rows(states: Any, indices: Sequence[int]) -> Any:
    """Some candidates' states: of a list of pictures, a tensor, or a `Prefix`; a copy where it is a tensor."""
    return [states[index] for index in indices] if isinstance(states, list) else states[list(indices)]


def joined(parts: Sequence[Any]) -> Any:
    """States of consecutive candidates as one."""
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], list):
        return [state for part in parts for state in part]
    if hasattr(parts[0], "joined"):
        return parts[0].joined(parts[1:])
    import torch

    return torch.cat(parts)
