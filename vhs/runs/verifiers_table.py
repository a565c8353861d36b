"""Several verifiers on one set of candidates: what each would have picked, and whether the difference is real.

Scores come from files that `vhs score` wrote (`vhs.runs.scoring`), or are the run's own; verdicts are the run's. With
several runs of the same prompts under other seeds, intervals are over prompts and seeds.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from vhs.errors import RunError
from vhs.files import write_bytes
from vhs.metrics import auc
from vhs.runs.report.analysis import RESAMPLES, prompt_draws, subset_weights
from vhs.runs.report.data import RunData, read_run
from vhs.runs.report.paired import Triple, common_prompts, mcnemar
from vhs.runs.scoring import score_file
from vhs.select import ranks
from vhs.verifiers.score_file import ScoreFile


@dataclass(frozen=True)
class Candidates:
    """S runs of P prompts with N candidates: `right` (S, P, N) bool, `scores` (S, P, N) by verifier, `tags` of the
    prompts."""

    right: np.ndarray
    scores: dict[str, np.ndarray]
    tags: Sequence[str]


@dataclass(frozen=True)
class VerifierFigures:
    """One verifier: `curve` has the rate of right picks for n = 1 ... N, `auc` is the mean within a prompt, over
    prompts with both verdicts (None: there is none)."""

    name: str
    curve: Sequence[Triple]
    auc: Triple | None


@dataclass(frozen=True)
class Pair:
    """Two verifiers: how often they pick the same candidate, Spearman's correlation of their scores within a prompt,
    what the second's picks of N have over the first's, and McNemar's exact p-value (None with several seeds)."""

    first: str
    second: str
    same_pick: float
    correlation: float
    difference: Triple
    only_first: int
    only_second: int
    p_value: float | None


@dataclass(frozen=True)
class VerifierComparison:
    """Everything that is said of verifiers on one set of candidates. Rates from 0 to 1, with 95 % intervals."""

    prompts: int
    runs: int
    candidates: int
    mean: Triple
    oracle: Sequence[Triple]
    verifiers: Sequence[VerifierFigures]
    pairs: Sequence[Pair]


def compare_verifiers(roots: Sequence[str | Path], names: Sequence[str]) -> VerifierComparison:
    """Reads runs in dev and the verifiers' scores of their candidates. Raises RunError for what is missing."""
    return compare_scores(read_candidates([read_run(root) for root in roots], names))


def read_candidates(runs: Sequence[RunData], names: Sequence[str]) -> Candidates:
    """Verdicts and scores of the prompts that every run has judged whole. Raises RunError."""
    prompts = [
        prompt
        for prompt in common_prompts(runs)
        if all("correct" in row for run in runs for row in run.table.rows[prompt.id])
    ]
    if not prompts:
        raise RunError(f"{runs[0].root}: no prompt with every candidate judged; generation_mode: dev judges them all")
    right = [[[row["correct"] for row in run.table.rows[prompt.id]] for prompt in prompts] for run in runs]
    scores = {
        name: np.array([_scores(run, name, [prompt.id for prompt in prompts]) for run in runs], dtype=np.float64)
        for name in dict.fromkeys(names)
    }
    return Candidates(np.array(right, dtype=bool), scores, [runs[0].table.rows[p.id][0]["tag"] for p in prompts])


def _scores(run: RunData, name: str, prompt_ids: Sequence[int]) -> list[list[float]]:
    """(P, N) scores of one verifier: of its score file, or the run's own."""
    file = score_file(run.root, name)
    if file.is_file():
        found = ScoreFile(file)
        found.require(run.table.prompts, run.table.num_samples)
        return [
            [found.by_candidate[prompt_id, index].score for index in range(run.table.num_samples)]
            for prompt_id in prompt_ids
        ]
    own = run.config["latent_verifier_name"] or Path(run.config["latent_verifier_path"] or "").name
    if name != own:
        raise RunError(f"{file}: missing; write it with: vhs score {run.root} --verifiers {name}")
    return [[row["score"] for row in run.table.rows[prompt_id]] for prompt_id in prompt_ids]


def compare_scores(table: Candidates) -> VerifierComparison:
    """The figures. Picks are exact means over all subsets of n candidates; of equal scores the first wins."""
    runs, prompts, count = table.right.shape
    draws, seeds = prompt_draws(table.tags), seed_draws(runs)
    weights = subset_weights(count)

    def interval(values: np.ndarray) -> list[Triple]:
        return intervals(values, draws, seeds)

    right = table.right.astype(float)
    oracle = -np.sort(-right, axis=2) @ weights.T
    picks = {name: _in_order(scores, right) @ weights.T for name, scores in table.scores.items()}
    figures = [
        VerifierFigures(name, interval(rates), _auc(table.scores[name], table.right, table.tags))
        for name, rates in picks.items()
    ]
    pairs = [_pair(a, b, table, picks, interval) for a, b in combinations(table.scores, 2)]
    mean = interval(right.mean(axis=2, keepdims=True))[0]
    return VerifierComparison(prompts, runs, count, mean, interval(oracle), figures, pairs)


def _in_order(scores: np.ndarray, values: np.ndarray) -> np.ndarray:
    """`values` (S, P, N) from the best-scored candidate to the worst, of equal ones the first first."""
    return np.take_along_axis(values, np.argsort(-scores, axis=2, kind="stable"), axis=2)


def seed_draws(runs: int, seed: int = 1) -> np.ndarray:
    """(resamples, runs): how often each seed is drawn, over how many there are."""
    return np.random.default_rng(seed).multinomial(runs, np.full(runs, 1 / runs), size=RESAMPLES) / runs


def intervals(values: np.ndarray, draws: np.ndarray, seeds: np.ndarray) -> list[Triple]:
    """A Triple per column of `values` (S, P, columns), resampling prompts and seeds together."""
    found = []
    for column in np.moveaxis(values, 2, 0):
        drawn = (draws * (seeds @ column)).sum(axis=1) / column.shape[1]
        low, high = np.quantile(drawn, [0.025, 0.975])
        found.append((float(column.mean()), float(low), float(high)))
    return found


def _auc(scores: np.ndarray, right: np.ndarray, tags: Sequence[str]) -> Triple | None:
    """Mean over prompts of the mean over their runs with both verdicts, resampling prompts."""
    runs, prompts, count = right.shape
    values = [
        [auc(scores[s, p], right[s, p]) for s in range(runs) if 0 < right[s, p].sum() < count] for p in range(prompts)
    ]
    known = [index for index, found in enumerate(values) if found]
    if not known:
        return None
    means = np.array([[[np.mean(values[index])] for index in known]])
    return intervals(means, prompt_draws([tags[index] for index in known]), np.ones((RESAMPLES, 1)))[0]


def _pair(first: str, second: str, table: Candidates, picks: dict[str, np.ndarray], interval) -> Pair:
    one, other = table.scores[first], table.scores[second]
    same = (one.argmax(axis=2) == other.argmax(axis=2)).mean()
    rows = zip(one.reshape(-1, one.shape[2]), other.reshape(-1, other.shape[2]), strict=True)
    correlations = [found for a, b in rows if (found := _spearman(a, b)) is not None]
    wins, losses = picks[second][:, :, -1], picks[first][:, :, -1]
    only_first, only_second = int((losses > wins).sum()), int((wins > losses).sum())
    return Pair(
        first,
        second,
        float(same),
        float(np.mean(correlations)) if correlations else float("nan"),
        interval((wins - losses)[:, :, None])[0],
        only_first,
        only_second,
        mcnemar(only_first, only_second) if len(one) == 1 else None,
    )


def _spearman(one: np.ndarray, other: np.ndarray) -> float | None:
    """Correlation of the ranks, ties sharing theirs; None where one of them ties everybody."""
    a, b = ranks(one), ranks(other)
    return float(np.corrcoef(a, b)[0, 1]) if a.std() and b.std() else None


def report(found: VerifierComparison, out: Path | None = None) -> str:
    """The text; with `out` verifiers.csv and verifiers.txt are written there."""
    text = as_text(found)
    if out is not None:
        write_bytes(out / "verifiers.csv", as_csv(found).encode())
        write_bytes(out / "verifiers.txt", f"{text}\n".encode())
    return text


def as_text(found: VerifierComparison) -> str:
    """The tables for a terminal, in %."""
    scope = f"{found.prompts} prompts, {found.candidates} candidates each"
    scope += f", {found.runs} seeds" if found.runs > 1 else ""
    names = [one.name for one in found.verifiers]
    shown = [n for n in range(1, found.candidates + 1) if n & (n - 1) == 0 or n == found.candidates]
    lines = [["best of n, %", *names, "oracle"]]
    lines += [
        [str(n), *(percent(one.curve[n - 1]) for one in found.verifiers), percent(found.oracle[n - 1])] for n in shown
    ]
    lines.append(["AUC within a prompt", *(_share(one.auc) for one in found.verifiers), ""])
    pairs = [["", "same pick", "rank correlation", "difference at N, points", "right alone", "McNemar p"]]
    for one in found.pairs:
        p_value = "several seeds" if one.p_value is None else f"{one.p_value:.3f}"
        numbers = [f"{100 * one.same_pick:.1f} %", f"{one.correlation:.2f}", percent(one.difference, "+")]
        pairs.append([f"{one.second} - {one.first}", *numbers, f"{one.only_second} : {one.only_first}", p_value])
    tables = [aligned(lines), *([aligned(pairs)] if found.pairs else [])]
    return "\n\n".join([f"{scope}; a single candidate: {percent(found.mean)} %", *tables])


def as_csv(found: VerifierComparison) -> str:
    """A line per verifier and n, the oracle's among them; rates from 0 to 1."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["verifier", "n", "pick", "low", "high"])
    for name, curve in [*((one.name, one.curve) for one in found.verifiers), ("oracle", found.oracle)]:
        writer.writerows([name, n, *triple] for n, triple in enumerate(curve, start=1))
    return stream.getvalue()


def percent(triple: Triple, sign: str = "") -> str:
    """`80.5 [77.2, 83.6]`, in %; `sign="+"` writes the sign of a gain."""
    value, low, high = (100 * one for one in triple)
    return f"{value:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"


def _share(triple: Triple | None) -> str:
    return "-" if triple is None else "{:.3f} [{:.3f}, {:.3f}]".format(*triple)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns for a terminal under a ruled head; the first is flush left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
