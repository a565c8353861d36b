"""What a run's scores are worth: the numbers behind the report's figures. Pure functions on rows and verdicts."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np

from vhs.geneval.summary import wilson
from vhs.metrics import auc, calibration, within_prompt_auc
from vhs.runs.tables import Run
from vhs.stages import STAGES

RESAMPLES = 2000
BINS = 40
"""5 % bins on the score's [-1, 1], as in the paper's Figure 6."""


@dataclass(frozen=True)
class Judged:
    """The prompts of which every candidate has a score and a verdict: arrays (prompts, candidates), and their tags."""

    scores: np.ndarray
    right: np.ndarray
    tags: Sequence[str]

    @property
    def flat(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(prompt number, score, verdict), one entry per candidate."""
        prompts = np.repeat(np.arange(len(self.scores)), self.scores.shape[1])
        return prompts, self.scores.ravel(), self.right.ravel()


def judged(run: Run) -> Judged:
    """Empty arrays where the run judged winners only, or had no verifier."""
    rows = [rows for rows in map(run.rows.get, (prompt.id for prompt in run.prompts)) if _whole(rows, run.num_samples)]
    shape = (len(rows), run.num_samples)
    scores = np.array([[row["score"] for row in one] for one in rows], dtype=np.float64).reshape(shape)
    right = np.array([[row["correct"] for row in one] for one in rows], dtype=bool).reshape(shape)
    return Judged(scores, right, [one[0]["tag"] for one in rows])


def _whole(rows: Sequence[Mapping[str, Any]], count: int) -> bool:
    return len(rows) == count and all(map(_known, rows))


def _known(row: Mapping[str, Any]) -> bool:
    return "correct" in row and row["score"] is not None


def prompt_draws(tags: Sequence[str], resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """(resamples, prompts): how often each prompt is drawn, with replacement within its tag, as in summary.json."""
    rng, names = np.random.default_rng(seed), np.asarray(tags)
    draws = np.zeros((resamples, len(names)))
    for tag in dict.fromkeys(tags):
        members = np.flatnonzero(names == tag)
        draws[:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), size=resamples)
    return draws


def interval(values: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """(columns, 3): mean over prompts and its 95 % bounds, of values (prompts, columns)."""
    low, high = np.quantile(draws @ values / len(values), [0.025, 0.975], axis=0)
    return np.stack([values.mean(axis=0), low, high], axis=-1)


def gain(run: Run) -> tuple[float, float, float] | None:
    """The pick's verdict less the mean of its prompt's candidates', over prompts: (value, low, high), paired."""
    whole = [prompt.id for prompt in run.prompts if all("correct" in row for row in run.rows[prompt.id])]
    if not whole:
        return None
    verdicts = {prompt: [row["correct"] for row in run.rows[prompt]] for prompt in whole}
    gains = [[right[run.winners[prompt]] - sum(right) / len(right)] for prompt, right in verdicts.items()]
    return tuple(interval(np.array(gains), prompt_draws([run.rows[prompt][0]["tag"] for prompt in whole]))[0])


def curve(table: Judged) -> list[dict[str, Any]]:
    """A row per n from 1 to N: {n, pick, oracle, mean}, each (value, low, high) from 0 to 1.

    Exact: the mean over all subsets of n candidates. `pick` takes the highest score (of equal ones the first), `oracle`
    is right where one of the n is, `mean` is one candidate alone. Intervals: 95 %, bootstrap over prompts within tags.
    """
    total = table.scores.shape[1]
    weights = subset_weights(total)
    by_score = np.argsort(-table.scores, axis=1, kind="stable")
    pick = np.take_along_axis(table.right, by_score, axis=1) @ weights.T
    oracle = -np.sort(-table.right.astype(float), axis=1) @ weights.T
    mean = table.right.mean(axis=1, keepdims=True)
    cells = interval(np.concatenate([pick, oracle, mean], axis=1), prompt_draws(table.tags)).tolist()
    return [
        {"n": n, "pick": cells[n - 1], "oracle": cells[total + n - 1], "mean": cells[-1]} for n in range(1, total + 1)
    ]


def subset_weights(total: int) -> np.ndarray:
    """(n, rank): of all subsets of n + 1 candidates, the share whose best is the candidate of that rank."""
    return np.array(
        [
            [comb(total - rank - 1, n - 1) / comb(total, n) if rank <= total - n else 0.0 for rank in range(total)]
            for n in range(1, total + 1)
        ]
    )


def distribution(table: Judged) -> dict[str, Any]:
    """Share of all candidates per bin of the score, right and wrong apart: {edges, right, wrong}.

    40 bins from -1 to 1 for a signed probability; over the range of the scores for a verifier on another scale.
    """
    _, scores, right = table.flat
    bounds = (-1.0, 1.0) if np.abs(scores).max() <= 1 else (float(scores.min()), float(scores.max()))
    edges = np.linspace(*bounds, BINS + 1)

    def share(part: np.ndarray) -> list[float]:
        return (np.histogram(part, edges)[0] / len(scores)).tolist()

    return {"edges": edges.tolist(), "right": share(scores[right]), "wrong": share(scores[~right])}


def reliability(run: Run) -> dict[str, Any] | None:
    """Calibration of p(yes) / (p(yes) + p(no)) in ten bins, each with Wilson's 95 % interval.

    None without a verifier's answers, and where winners alone were judged: picks are no sample of the candidates.
    """
    whole = [rows for rows in run.rows.values() if all(map(_known, rows))]
    rows = [row for rows in whole for row in rows if row["p_yes"] is not None]
    if not rows:
        return None
    sums = [row["p_yes"] + row["p_no"] for row in rows]
    shares = [row["p_yes"] / total if total else 0.5 for row, total in zip(rows, sums, strict=True)]
    found = calibration(shares, [row["correct"] for row in rows])
    for one in found["bins"]:
        if one["count"]:
            one["below"], one["above"] = wilson(round(one["right"] * one["count"]), one["count"])
    return found


def separation(table: Judged) -> dict[str, float | None]:
    """How well the score tells right from wrong: AUC over all candidates, and within a prompt."""
    prompts, scores, right = table.flat
    if not 0 < right.sum() < len(right):
        return {"auc": None, "within": None}
    within = within_prompt_auc(prompts.tolist(), scores, right)
    return {"auc": auc(scores, right), "within": None if np.isnan(within) else within}


def stage_costs(timings: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[dict[str, Any]]:
    """A row per stage that ran: the median over prompts of its milliseconds, and of its items per prompt."""
    rows = []
    for name in STAGES:
        measured = [stages[name] for stages in timings.values() if name in stages]
        if measured:
            spent = 1000 * statistics.median(one["seconds"] for one in measured)
            rows.append({"stage": name, "ms": spent, "items": int(statistics.median(one["items"] for one in measured))})
    return rows
