"""How good a verifier's scores are: pure functions of rows (group, score, verdict).

A row is a candidate. A group is the set that one pick is made from: a prompt, or a prompt under one seed. All
candidates of a group are in the order of their index, because ties go to the first. Arrays are numpy, one entry a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import comb

import numpy as np

from vhs.bootstrap import RESAMPLES, Interval, bootstrap


def auc(scores: Sequence[float], verdicts: Sequence[bool]) -> float:
    """Area under the ROC curve: the chance that a right candidate outscores a wrong one, ties counting half.

    Raises ValueError unless both verdicts occur.
    """
    scores, verdicts = np.asarray(scores, dtype=np.float64), np.asarray(verdicts, dtype=bool)
    right, wrong = int(verdicts.sum()), int((~verdicts).sum())
    if not right or not wrong:
        raise ValueError("an AUC needs candidates of both verdicts")
    return float((_average_ranks(scores)[verdicts].sum() - right * (right + 1) / 2) / (right * wrong))


def _average_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, equal values sharing the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def within_prompt_auc(groups: Sequence, scores: Sequence[float], verdicts: Sequence[bool]) -> float:
    """The AUC within a group, averaged over the groups that have both verdicts; NaN when none has.

    A pooled AUC rises by reading the prompt alone, since some prompts are easy; this one does not.
    """
    values = list(group_aucs(groups, scores, verdicts).values())
    return float(np.mean(values)) if values else float("nan")


def group_aucs(groups: Sequence, scores: Sequence[float], verdicts: Sequence[bool]) -> dict:
    """The AUC of every group that has both verdicts, by group."""
    found = {}
    for group, s, v in by_group(groups, scores, verdicts):
        if 0 < v.sum() < len(v):
            found[group] = auc(s, v)
    return found


def by_group(groups: Sequence, scores: Sequence[float], verdicts: Sequence[bool]) -> Iterator[tuple]:
    """(group, scores, verdicts) of each group, in the order of first appearance; rows keep theirs."""
    rows: dict = {}
    for row, group in enumerate(groups):
        rows.setdefault(group, []).append(row)
    scores, verdicts = np.asarray(scores, dtype=np.float64), np.asarray(verdicts, dtype=bool)
    for group, members in rows.items():
        yield group, scores[members], verdicts[members]


# --------------------------------------------------------------------------------------------------------- best of N


def first_pick(scores: np.ndarray, verdicts: np.ndarray, n: int) -> float:
    """1 when the best-scored of the first `n` candidates is right, else 0; ties go to the first."""
    return float(verdicts[int(np.argmax(scores[:n]))])


def expected_pick(scores: np.ndarray, verdicts: np.ndarray, n: int) -> float:
    """The chance that the best-scored of `n` candidates, drawn without replacement from the K here, is right.

    Exact: of the comb(K, n) draws, comb(K - r - 1, n - 1) are won by the candidate of rank r (from 0). Rank is by
    score, then by index, which is what `first_pick` does with a tie.
    """
    total = len(scores)
    # lexsort's last key decides first: by score, then by index
    ranked = np.asarray(verdicts, dtype=np.float64)[np.lexsort((np.arange(total), -scores))]
    chances = np.array([comb(total - rank - 1, n - 1) for rank in range(total - n + 1)], dtype=np.float64) / comb(
        total, n
    )
    return float(ranked[: total - n + 1] @ chances)


def best_of_n(
    groups: Sequence, scores: Sequence[float], verdicts: Sequence[bool], n: int, expected: bool = True
) -> dict:
    """Per group, how often the verifier's pick among `n` candidates is right.

    `expected` averages over all choices of n candidates; without it the first n are the candidates. At n = 1 it is
    the mean of the group (or its first candidate). Raises ValueError for a group of fewer than `n` candidates.
    """
    pick = expected_pick if expected else first_pick
    return {group: pick(s, v, _enough(group, s, n)) for group, s, v in by_group(groups, scores, verdicts)}


def oracle_of_n(groups: Sequence, verdicts: Sequence[bool], n: int, expected: bool = True) -> dict:
    """Per group, how often at least one of `n` candidates is right: what a perfect verifier would reach."""
    return best_of_n(groups, np.asarray(verdicts, dtype=np.float64), verdicts, n, expected)


def _enough(group: object, scores: np.ndarray, n: int) -> int:
    if not 1 <= n <= len(scores):
        raise ValueError(f"group {group!r} has {len(scores)} candidates, best of {n} needs {n}")
    return n


def best_of_n_curve(
    groups: Sequence,
    scores: Sequence[float],
    verdicts: Sequence[bool],
    ns: Sequence[int],
    expected: bool = True,
    clusters: dict | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[dict]:
    """A row per n: {n, verifier: Interval, oracle: Interval, gain: Interval}, rates from 0 to 1.

    `gain` is the paired difference to n = 1 of the same groups. `clusters` maps a group to what the bootstrap draws
    (the prompt, where a group is a prompt under a seed); each group is its own when absent.
    """
    single = best_of_n(groups, scores, verdicts, 1, expected=True)
    names = [clusters[group] if clusters else group for group in single]

    def interval(values: Sequence[float]) -> Interval:
        return bootstrap(values, names, resamples, seed)

    rows = []
    for n in ns:
        picked = best_of_n(groups, scores, verdicts, n, expected)
        oracle = oracle_of_n(groups, verdicts, n, expected)
        rows.append(
            {
                "n": n,
                "verifier": interval(list(picked.values())),
                "oracle": interval(list(oracle.values())),
                "gain": interval([picked[group] - single[group] for group in single]),
            }
        )
    return rows


# ---------------------------------------------------------------------------------------- accuracy and calibration


def accuracy(says_yes: Sequence[bool], verdicts: Sequence[bool]) -> dict[str, float]:
    """Agreement with the verdicts: over all rows, over the right ones, over the wrong ones, and the mean of the two."""
    says, right = np.asarray(says_yes, dtype=bool), np.asarray(verdicts, dtype=bool)
    of_right, of_wrong = _mean(says[right]), _mean(~says[~right])
    return {
        "accuracy": _mean(says == right),
        "of_right": of_right,
        "of_wrong": of_wrong,
        "balanced": (of_right + of_wrong) / 2,
    }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def calibration(p_yes: Sequence[float], verdicts: Sequence[bool], bins: int = 10) -> dict:
    """Expected calibration error and its table; p_yes should be p("yes") / (p("yes") + p("no")).

    Equal-width bins; error = sum over bins of (rows in it / all rows) * |mean p - share of right rows|.
    """
    p, right = np.asarray(p_yes, dtype=np.float64), np.asarray(verdicts, dtype=bool)
    index = np.minimum((p * bins).astype(int), bins - 1)  # p = 1 belongs to the last bin
    table = []
    for i in range(bins):
        inside = index == i
        row = {"low": i / bins, "high": (i + 1) / bins, "count": int(inside.sum())}
        if inside.any():
            row |= {"mean_p": float(p[inside].mean()), "right": float(right[inside].mean())}
        table.append(row)
    error = sum(row["count"] * abs(row["mean_p"] - row["right"]) for row in table if row["count"]) / max(len(p), 1)
    return {"error": float(error), "bins": table}


def fit_temperature(log_odds: Sequence[float], verdicts: Sequence[bool]) -> float:
    """The T that makes sigmoid(log_odds / T) most likely for the verdicts, from 0.01 to 100.

    The loss is convex in 1 / T; its derivative's zero is bisected. Raises ValueError unless both verdicts occur.
    """
    odds, right = np.asarray(log_odds, dtype=np.float64), np.asarray(verdicts, dtype=bool)
    if right.all() or not right.any():
        raise ValueError("a temperature needs candidates of both verdicts")
    low, high = np.log(0.01), np.log(100.0)  # of 1 / T
    for _ in range(60):
        middle = (low + high) / 2
        p = 0.5 * (1 + np.tanh(0.5 * np.exp(middle) * odds))  # the sigmoid, without overflow
        slope = float(((p - right) * odds).sum())
        low, high = (middle, high) if slope <= 0 else (low, middle)  # 0 where every verdict is certain already
    return float(np.exp(-(low + high) / 2))


def histogram(scores: Sequence[float], verdicts: Sequence[bool], bins: int = 20) -> dict:
    """Counts of the score on [-1, 1], right and wrong candidates apart."""
    scores, right = np.asarray(scores, dtype=np.float64), np.asarray(verdicts, dtype=bool)
    edges = np.linspace(-1, 1, bins + 1)
    of_right, of_wrong = (np.histogram(scores[part], edges)[0].tolist() for part in (right, ~right))
    return {"edges": edges.tolist(), "right": of_right, "wrong": of_wrong}
