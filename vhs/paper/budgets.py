"""How many candidates a budget in times of a single candidate buys, both measured in one go."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from vhs.best_of_n import BestOfN
from vhs.errors import ConfigError
from vhs.measure.budget import largest
from vhs.measure.latency import in_turn
from vhs.paper.rows import Row
from vhs.resolve import resolve

REPEATS = 9


def candidates(row: Row, single: Row, say: Callable[[str], None]) -> int:
    """The largest N whose whole prompt takes at most `row.multiple` times as long as that of `single` without a
    verifier, on the same generator and prompt. Each N is called in turn with the single candidate, so that what
    disturbs the machine disturbs both.

    Raises ConfigError where not even one candidate fits.
    """
    run = resolve(row.runs[0])
    generator, verifier, reranker = run.models.load()
    prompt, device = run.prompts[0], run.models.device
    alone = BestOfN.of(single.runs[0], generator, None, None)
    method = BestOfN.of(run.config.changed(generation_mode="prod"), generator, verifier, reranker)

    @cache
    def times(count: int) -> float:
        """A prompt's time with `count` candidates, in times of a single one's."""
        works = (lambda: method(prompt, num_samples=count), lambda: alone(prompt, num_samples=1))
        many, one = np.median(in_turn(works, device, REPEATS), axis=0)
        return float(many / one)

    found = largest(times, row.multiple)
    if not found:
        raise ConfigError(
            f"{row.name}: {row.multiple:g} times a single candidate's time buys none; one takes {times(1):.2f} times"
        )
    cost = f"{found} candidates ({times(found):.2f} times)"
    say(f"{row.name}: {row.multiple:g} times a single candidate's time buys {cost}")
    return found
