"""The largest N whose whole prompt, from its text to the decoded winner, fits a time budget on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from vhs.measure.latency import latency

if TYPE_CHECKING:
    from vhs.best_of_n import BestOfN
    from vhs.records import Prompt

MOST = 65536
"""The largest `num_samples` of a configuration."""
REPEATS = 5


@dataclass(frozen=True)
class Fit:
    """The largest N that fits (0: none does), its milliseconds, and those of a single candidate."""

    budget_ms: float
    num_samples: int
    milliseconds: float
    one_ms: float

    @property
    def ms_per_candidate(self) -> float | None:
        """What a further candidate costs; None where there is at most one."""
        more = self.num_samples - 1
        return (self.milliseconds - self.one_ms) / more if more > 0 else None


def fit(method: BestOfN, prompt: Prompt, budget_ms: float, repeats: int = REPEATS) -> Fit:
    """Measures `method` on `prompt`; a number of candidates costs the median of `repeats` calls after a warm-up.

    `method` is in prod: only the winner is finished and decoded.
    """
    return fits(method, prompt, [budget_ms], repeats)[0]


def fits(method: BestOfN, prompt: Prompt, budgets: Sequence[float], repeats: int = REPEATS) -> list[Fit]:
    """`fit` of several budgets; a number of candidates is measured once for all of them."""
    device = method.generator.info.device

    @cache
    def milliseconds(count: int) -> float:
        return latency(lambda: method(prompt, num_samples=count), device, repeats).median

    found = [(budget, largest(milliseconds, budget)) for budget in budgets]
    return [Fit(budget, count, milliseconds(max(count, 1)), milliseconds(1)) for budget, count in found]


def largest(milliseconds: Callable[[int], float], budget: float, most: int = MOST) -> int:
    """The largest N up to `most` with `milliseconds(N) <= budget`, 0 where one candidate exceeds it.

    Doubled until it does not fit, then halved in between: about 2 log2(N) measurements, none far above the budget.
    """
    if milliseconds(1) > budget:
        return 0
    fits = 1
    while fits < most and milliseconds(min(2 * fits, most)) <= budget:
        fits = min(2 * fits, most)
    exceeds = min(2 * fits, most + 1)
    while exceeds - fits > 1:
        middle = (fits + exceeds) // 2
        fits, exceeds = (middle, exceeds) if milliseconds(middle) <= budget else (fits, middle)
    return fits
