"""What a cascade would have picked and cost: the first verifier keeps k of N, the second chooses among them.

Both verifiers' scores are of one run's candidates (`vhs.runs.scoring`): nothing is generated again. Keeping one is the
first verifier alone; the last row is the second alone, which needs every candidate finished and decoded.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vhs.errors import RunError
from vhs.files import read_form
from vhs.runs.forms import Seconds
from vhs.runs.report.analysis import prompt_draws, stage_costs
from vhs.runs.report.data import RunData, read_run
from vhs.runs.report.paired import Triple
from vhs.runs.scoring import TIMINGS
from vhs.runs.verifiers_table import Candidates, aligned, intervals, percent, read_candidates, seed_draws


@dataclass(frozen=True)
class CascadeRow:
    """`keep` None: the second verifier alone. `gain` is over the first verifier alone, paired; `cost` the time of a
    prompt over that of the first alone, None where a stage was not measured."""

    keep: int | None
    decoded: int
    rate: Triple
    gain: Triple
    cost: float | None


def compare_cascade(roots: Sequence[str | Path], first: str, second: str) -> list[CascadeRow]:
    """The rows for keep = 1, 2, 4, ..., N and for the second verifier alone. Raises RunError for what is missing."""
    runs = [read_run(root) for root in roots]
    if runs[0].manifest.get("verifier", {}).get("reads", "hidden") not in ("hidden", "latent"):
        raise RunError(f"{runs[0].root}: its verifier reads pictures, which leaves a cascade nothing to save")
    table = read_candidates(runs, [first, second])
    return cascade_rows(table, first, second, item_costs(runs[0], second))


def cascade_rows(
    table: Candidates, first: str, second: str, costs: Mapping[str, float] | None = None
) -> list[CascadeRow]:
    """Of equal scores the first candidate wins; among the kept, the one that the first verifier prefers."""
    runs, _, count = table.right.shape
    draws, seeds = prompt_draws(table.tags), seed_draws(runs)
    order = np.argsort(-table.scores[first], axis=2, kind="stable")
    ranked = np.take_along_axis(table.scores[second], order, axis=2)
    right = np.take_along_axis(table.right.astype(float), order, axis=2)
    alone = right[:, :, :1]
    rows = []
    for keep in [*(k for k in range(1, count) if k & (k - 1) == 0), count, None]:
        if keep is None:
            pick = table.scores[second].argmax(axis=2)[:, :, None]
            found = np.take_along_axis(table.right.astype(float), pick, axis=2)
        else:
            found = np.take_along_axis(right, ranked[:, :, :keep].argmax(axis=2)[:, :, None], axis=2)
        rate, gain = (intervals(values, draws, seeds)[0] for values in (found, found - alone))
        rows.append(CascadeRow(keep, keep or count, rate, gain, _cost(keep, count, costs)))
    return rows


def item_costs(run: RunData, second: str) -> dict[str, float] | None:
    """Milliseconds of each stage: of encoding a prompt, and of the others per candidate; `rerank` is the second
    verifier's. Medians of the run and of its scoring; None where one was not measured."""
    found = {row["stage"]: row["ms"] / max(row["items"], 1) for row in stage_costs(run.timings)}
    file = run.root / TIMINGS
    measured = read_form(file, dict[str, list[Seconds]], remedy="remove it") if file.is_file() else {}
    if second in measured:
        found["rerank"] = 1000 * statistics.median(measured[second])
    return found if {"encode", "prefix", "score", "finish", "decode", "rerank"} <= set(found) else None


def _cost(keep: int | None, count: int, costs: Mapping[str, float] | None) -> float | None:
    if costs is None:
        return None
    finished = costs["finish"] + costs["decode"]
    once = costs["encode"] + count * costs["prefix"]
    hidden = once + count * costs["score"] + finished
    if keep is None:
        return (once + count * (finished + costs["rerank"])) / hidden
    more = 0.0 if keep == 1 else keep * costs["rerank"]
    return (once + count * costs["score"] + keep * finished + more) / hidden


def as_text(rows: Sequence[CascadeRow], first: str, second: str) -> str:
    """The table for a terminal, in %."""
    names = {1: f"{first} alone", None: f"{second} alone"}
    lines = [["", "finished and decoded", "right picks, %", "gain, points", "time"]]
    lines += [
        [
            names.get(row.keep, f"keep {row.keep}, then {second}"),
            str(row.decoded),
            percent(row.rate),
            percent(row.gain, "+") if row.keep != 1 else "",
            "not measured" if row.cost is None else f"{row.cost:.2f}",
        ]
        for row in rows
    ]
    return aligned(lines)
