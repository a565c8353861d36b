"""Quality against average cost where the number of candidates is not the same for every prompt.

From a finished run in dev, whose candidates are scored and judged once: which of them a policy would have made follows
from their scores. Candidates come in many random orders, since theirs in the run is one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from vhs.runs.report.analysis import Judged, interval, prompt_draws

ORDERS = 200
THRESHOLDS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
Policy = Callable[[np.ndarray], np.ndarray]
"""Scores (prompts, candidates) in the order in which they are made -> how many of them each prompt gets (prompts,)."""


def fixed(count: int) -> Policy:
    """Best of `count`."""
    return lambda scores: np.full(len(scores), count)


def stopped(at: float, least: int = 1) -> Policy:
    """`stop_when`: a prompt ends with the candidate whose score reaches `at`, `min_samples` being `least`."""

    def spent(scores: np.ndarray) -> np.ndarray:
        reached = scores >= at
        first = np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, scores.shape[1])
        return np.maximum(first, least)

    return spent


def spread(average: float) -> Policy:
    """`average` candidates a prompt in all, each next one to the prompt whose best score is lowest so far: easy prompts
    give theirs to hard ones. Every prompt gets one."""

    def spent(scores: np.ndarray) -> np.ndarray:
        prompts, most = scores.shape
        best = np.maximum.accumulate(scores, axis=1)
        counts = np.ones(prompts, dtype=int)
        for _ in range(min(round(average * prompts), prompts * most) - prompts):
            lowest = np.where(counts < most, best[np.arange(prompts), counts - 1], np.inf)
            counts[lowest.argmin()] += 1
        return counts

    return spent


def orders(table: Judged, count: int, seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Scores and verdicts (prompts, candidates) with every prompt's candidates in a random order, `count` times."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        order = rng.permuted(np.tile(np.arange(table.scores.shape[1]), (len(table.scores), 1)), axis=1)
        yield np.take_along_axis(table.scores, order, axis=1), np.take_along_axis(table.right, order, axis=1)


def outcome(policy: Policy, scores: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(candidates spent, whether the best of them by score is right), by prompt."""
    spent = policy(scores)
    made = np.arange(scores.shape[1]) < spent[:, None]
    return spent, right[np.arange(len(scores)), np.where(made, scores, -np.inf).argmax(axis=1)]


def costs(table: Judged, thresholds: Sequence[float] = THRESHOLDS, count: int = ORDERS) -> list[dict[str, Any]]:
    """A row per policy: average candidates a prompt, and the share of right picks (value, low, high) from 0 to 1 with
    a 95 % bootstrap over prompts. `spread` has the averages of `stop_when`'s and of the fixed numbers."""
    most, draws = table.scores.shape[1], prompt_draws(table.tags)
    fixed_counts = [n for n in (1, 2, 4, 8, 16, 32, 64) if n < most] + [most]
    policies = {("fixed", f"N = {n}"): fixed(n) for n in fixed_counts}
    policies |= {("stop_when", f"stop_when: {at:g}"): stopped(at) for at in thresholds}
    policies |= {("spread", f"{n} on average, by score"): spread(n) for n in fixed_counts[1:-1]}
    rows = []
    for (kind, name), policy in policies.items():
        spent, right = zip(*(outcome(policy, *one) for one in orders(table, count)), strict=True)
        value, low, high = interval(np.mean(right, axis=0)[:, None], draws)[0].tolist()
        cost = float(np.mean(spent))
        rows.append({"policy": kind, "name": name, "candidates": cost, "right": value, "low": low, "high": high})
    return rows


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a table."""
    lines = ["| candidates of a prompt | on average | right picks | 95 % |", "|---|---|---|---|"]
    for row in rows:
        bounds = f"{100 * row['low']:.1f} to {100 * row['high']:.1f}"
        lines.append(f"| {row['name']} | {row['candidates']:.2f} | {100 * row['right']:.1f} % | {bounds} |")
    return "\n".join(lines)


def lines(rows: Sequence[dict[str, Any]]) -> dict[str, list[tuple[float, float, int]]]:
    """By policy, (cost, share right, the candidates' number) in the order of cost: what a figure draws."""
    found: dict[str, list[tuple[float, float, int]]] = {}
    for row in sorted(rows, key=lambda row: row["candidates"]):
        point = (row["candidates"], row["right"], round(row["candidates"]))
        found.setdefault(row["policy"], []).append(point)
    return found
