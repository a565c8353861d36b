"""The upper part of a run's page in words and numbers: what it was, what it reached, how to read its scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from vhs.runs.report import analysis
from vhs.runs.report import figures as draw
from vhs.runs.report.data import RunData
from vhs.runs.tables import COLUMNS, Run

OVERALL = {"overall_tags": "mean over tags", "overall_prompts": "mean over prompts"}
EXPLAINED = {
    "mean_of_candidates": ("one candidate", "mean over all candidates"),
    "pick": ("the verifier's pick", "best of {n}"),
    "oracle": ("a perfect pick", "oracle, best of {n}"),
}


def meta(data: RunData) -> str:
    """One line: generator, verifier, prompts, mode, seed."""
    config = data.config
    return " · ".join(
        [
            f"generator {config['generator']}",
            f"verifier {_verifier(config)}" if config.get("latent_verifier", True) else "no verifier",
            f"{len(data.table.prompts)} prompts of {Path(config['annotation']).name}",
            f"mode {data.table.mode}",
            f"seed {config['seed']}",
        ]
    )


def _verifier(config: Mapping[str, Any]) -> str:
    """The configured name, and the checkpoint that a run gives in the entry's place; an ensemble's members."""
    if config.get("ensemble"):
        return " + ".join(config["ensemble"])
    name, path = config.get("latent_verifier_name"), config.get("latent_verifier_path")
    return f"{name} ({path})" if name and path else str(name or path)


def partial(data: RunData) -> str:
    """What is missing of an interrupted run; empty for a finished one."""
    if not data.partial:
        return ""
    return (
        f"{len(data.table.prompts)} of {data.expected} prompts are complete. Everything here is about those; "
        "cont=true finishes the run."
    )


def numbers(data: RunData, values: Mapping[str, Any]) -> list[dict[str, str]]:
    """The figures at the top: one candidate, pick, oracle over prompts, and the pick's paired gain."""
    overall = values["overall"].get("overall_prompts", {})
    shown = [
        {
            "kind": name,
            "name": words[0],
            "value": f"{100 * overall[name]['value']:.1f} %",
            "note": f"{_interval(overall[name])}; {words[1].format(n=data.table.num_samples)}",
        }
        for name, words in EXPLAINED.items()
        if overall.get(name)
    ]
    found = analysis.gain(data.table)
    if found:
        value, low, high = (f"{100 * one:+.1f}".replace("-", "\u2212") for one in found)
        shown.append(
            {"kind": "gain", "name": "gain of the pick", "value": value, "note": f"{low} to {high} points, paired"}
        )
    return shown


def notes(data: RunData) -> list[str]:
    """How to read this run: what a score means, who says right and wrong, what it does not know."""
    found = [score_meaning(data.table)]
    if data.table.judged:
        found.append(
            "Right and wrong are GenEval's verdicts. Intervals are 95 %: Wilson's for the picks of "
            "one tag, else a bootstrap over prompts within tags."
        )
    else:
        found.append(f"Nothing was judged: {data.manifest.get('geneval', {}).get('reason') or 'no judge ran'}.")
    if data.table.mode == "prod":
        found.append(
            "In prod only winners are finished and decoded. Curve, distribution and oracle need generation_mode=dev, "
            "in which every candidate is; both have the same winners."
        )
    selection = data.config.get("selection", "argmax")
    if selection != "argmax":
        found.append(f"The pick is not always the highest score: selection is {selection}.")
    if rerank := data.config.get("rerank"):
        found.append(f"The pick is {rerank['verifier']}'s among the {rerank['keep']} highest scores (rerank).")
    return found


def score_meaning(run: Run) -> str:
    """What the scores of this run are, read from them."""
    rows = [row for rows in run.rows.values() for row in rows]
    if all(row["score"] is None for row in rows):
        return "No verifier scored; candidates stand in their own order."
    if all(_signed(row) for row in rows):
        return (
            "A score is the verifier's signed probability: +p(yes) where it answers yes, −p(no) where it answers no. "
            "The highest is picked."
        )
    return "A score is the verifier's own number; the highest is picked."


def figures(data: RunData) -> list[dict[str, Any]]:
    """{title, svg, caption, table} of each figure that the run has the data for."""
    return [
        {**one, "svg": Markup(draw.themed_svg(one.pop("figure"), one["title"])), "table": one.get("table")}
        for one in drawn(data)
    ]


def drawn(data: RunData) -> list[dict[str, Any]]:
    """{name, title, figure, caption, table} of the same figures."""
    found: list[dict[str, Any]] = []
    table = analysis.judged(data.table)
    if len(table.scores):
        found += [_curve(table), _distribution(table)]
    calibration = analysis.reliability(data.table)
    if calibration:
        found.append(_calibration(calibration))
    costs = analysis.stage_costs(data.timings)
    if costs:
        found.append(_costs(costs))
    return found


def _curve(table: analysis.Judged) -> dict[str, Any]:
    rows = analysis.curve(table)
    return {
        "name": "curve",
        "title": "Best of n",
        "figure": draw.curve_figure({"pick": rows}),
        "caption": f"Exact: the mean over all subsets of n of the {rows[-1]['n']} candidates of each of "
        f"{len(table.scores)} prompts. Shaded: 95 %.",
        "table": [["n", "pick", "95 %", "oracle", "95 %"]]
        + [[str(row["n"]), *_percents(row["pick"]), *_percents(row["oracle"])] for row in rows],
    }


def _distribution(table: analysis.Judged) -> dict[str, Any]:
    found, separation = analysis.distribution(table), analysis.separation(table)
    auc = "".join(
        f" AUC {words} {separation[key]:.3f}." if separation[key] is not None else ""
        for key, words in (("auc", "over all candidates"), ("within", "within a prompt"))
    )
    edges = found["edges"]
    return {
        "name": "distribution",
        "title": "Scores of right and wrong candidates",
        "figure": draw.distribution_figure(found),
        "caption": f"{table.right.size} candidates, {len(edges) - 1} bins of {edges[1] - edges[0]:.3g}.{auc}",
        "table": [["score", "right", "wrong"]]
        + [
            [f"{edges[i]:+.2f} to {edges[i + 1]:+.2f}", f"{100 * right:.1f} %", f"{100 * wrong:.1f} %"]
            for i, (right, wrong) in enumerate(zip(found["right"], found["wrong"], strict=True))
            if right or wrong
        ],
    }


def _calibration(found: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": "calibration",
        "title": "Calibration",
        "figure": draw.calibration_figure(found),
        "caption": f"Expected calibration error {found['error']:.3f}. Area of a point: candidates in its bin; bars: "
        "95 % (Wilson); dotted: perfect calibration.",
        "table": [["p(yes)", "candidates", "right"]]
        + [
            [f"{one['low']:.1f} to {one['high']:.1f}", str(one["count"]), f"{100 * one['right']:.1f} %"]
            for one in found["bins"]
            if one["count"]
        ],
    }


def _costs(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    total = sum(row["ms"] for row in rows if row["stage"] not in ("judge", "save"))
    return {
        "name": "cost",
        "title": "Time by stage",
        "figure": draw.cost_figure(rows),
        "caption": f"Medians over prompts; the method's stages add up to {total:.0f} ms. Grey: the experiment's own.",
        "table": [["stage", "ms per prompt", "items per prompt"]]
        + [[row["stage"], f"{row['ms']:.1f}", str(row["items"])] for row in rows],
    }


def tag_rows(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """summary.json's table for the page: a row per tag and per overall."""
    named = [(tag, row, False) for tag, row in values["tags"].items()]
    named += [(OVERALL[name], row, True) for name, row in values["overall"].items()]
    return [
        {
            "name": name,
            "prompts": row["prompts"],
            "total": total,
            "cells": [
                {"value": f"{100 * row[column]['value']:.1f}", "interval": _interval(row[column])}
                if row[column]
                else None
                for column in COLUMNS
            ],
            "marks": list(_marks(row)),
        }
        for name, row, total in named
    ]


def _marks(row: Mapping[str, Any]) -> list[dict[str, str]]:
    """The small scale at the end of a row, in % of its width."""

    def at(name: str) -> str:
        return f"left: {100 * row[name]['value']:.1f}%"

    pick = row["pick"]
    reach = f"left: {100 * pick['low']:.1f}%; width: {100 * (pick['high'] - pick['low']):.1f}%"
    marks = [{"kind": "reach", "style": reach}]
    for kind, name in (("mean", "mean_of_candidates"), ("top", "oracle"), ("best", "pick")):
        if row[name]:
            marks.append({"kind": kind, "style": at(name)})
    return marks


def _signed(row: Mapping[str, Any]) -> bool:
    if row["score"] is None or row["p_yes"] is None or row["correct_verifier"] is None:
        return False
    return abs(row["score"] - (row["p_yes"] if row["correct_verifier"] else -row["p_no"])) < 1e-6


def _interval(cell: Mapping[str, float]) -> str:
    return f"{100 * cell['low']:.1f} to {100 * cell['high']:.1f}"


def _percents(cell: Sequence[float]) -> list[str]:
    value, low, high = (100 * one for one in cell)
    return [f"{value:.1f} %", f"{low:.1f} to {high:.1f}"]


def save_figures(data: RunData, folder: Path) -> list[Path]:
    """Writes every figure as PNG and PDF into `folder`; returns their paths."""
    paths = []
    for one in drawn(data):
        figure: Figure = one["figure"]
        draw.save_figure(figure, folder / one["name"])
        paths += [folder / f"{one['name']}.{suffix}" for suffix in ("png", "pdf")]
    return paths
