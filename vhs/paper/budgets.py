"""How many candidates a budget in times of a single candidate buys, both measured in one go."""

from __future__ import annotations

from collections.abc import Callable

from vhs.best_of_n import BestOfN
from vhs.measure.budget import REPEATS, fit
from vhs.measure.latency import latency
from vhs.paper.rows import Row
from vhs.resolve import resolve


def candidates(row: Row, single: Row, say: Callable[[str], None]) -> int:
    """The largest N whose whole prompt takes at most `row.multiple` times as long as that of `single` without a
    verifier: both on the same generator, prompt and minute, so that a busy machine slows both.

    Raises ConfigError where not even one candidate fits.
    """
    run = resolve(row.runs[0])
    generator, verifier, reranker = run.models.load()
    alone = BestOfN.of(single.runs[0], generator, None, None)
    prompt, device = run.prompts[0], run.models.device
    one = latency(lambda: alone(prompt, num_samples=1), device, REPEATS).median
    method = BestOfN.of(run.config.changed(generation_mode="prod"), generator, verifier, reranker)
    found = fit(method, prompt, row.multiple * one)
    say(
        f"{row.name}: {row.multiple:g} times a single candidate's {one:.0f} ms buys {found.num_samples} candidates "
        f"({found.milliseconds:.0f} ms)"
    )
    return found.num_samples
