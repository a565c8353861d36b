"""`--flops`: the paper's FLOPs and VRAM columns, counted on the meta device, beside the paper's own figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import yaml

from vhs.checkpoints.boundary import loading
from vhs.device import resolve_dtype
from vhs.errors import ConfigError
from vhs.measure.config import BenchConfig
from vhs.measure.counted import count_prompt, weights
from vhs.measure.memory import GIB
from vhs.measure.needs import resident
from vhs.measure.random_models import places, random_generator, random_verifier
from vhs.measure.stages import ORDER
from vhs.paths import PROJECT

TERA = 1e12
BASELINE = "clip"
PAPER = {"clip": "MLLM w/ CLIP", "latent": "MLLM w/ AE", "hidden_7": "VHS h7"}
"""The paper's names of the three verifiers (its cost table; data/paper_results.yaml)."""
Row = dict[str, Any]


def count(config: BenchConfig, say: Callable[[str], None]) -> list[Row]:
    """One row per verifier and N: TFLOP by stage, peak GiB, and what is saved against the CLIP verifier at equal N.

    Precision is the run's on a GPU (`dtype: auto` is bfloat16). Raises ConfigError for a verifier without
    `architecture`.
    """
    dtype = resolve_dtype(config.dtype, "meta")
    generator = random_generator(config.of_run(), "meta", dtype)
    rows = []
    for label, values in config.verifiers.items():
        if "architecture" not in values:
            raise ConfigError(f"verifiers: {label} has no architecture, which costs are counted of")
        verifier = random_verifier(label, values["architecture"], values.get("tower"), generator.info, config.at_once)
        held = weights(generator, verifier)
        for candidates in config.num_samples:
            with loading("architecture", places(values)):
                stages = count_prompt(generator, verifier, candidates)
            flops: Counter[str] = sum((stage.flops for stage in stages), Counter())
            peak = max(resident(held, stage.needs, "none") + stage.tensors for stage in stages)
            rows.append(
                {
                    "verifier": label,
                    "num_samples": candidates,
                    "flops": {name: flops[name] for name in ORDER if flops[name]},
                    "tflop": flops.total() / TERA,
                    "peak_gib": peak / GIB,
                }
            )
            say(f"{label}, N = {candidates}: {rows[-1]['tflop']:.2f} TFLOP, {rows[-1]['peak_gib']:.2f} GiB")
    return [_with_savings(row, rows) for row in rows]


def _with_savings(row: Row, rows: Sequence[Row]) -> Row:
    """The row with per cent saved against the baseline at the same N, None where that was not counted."""
    same = [one for one in rows if one["verifier"] == BASELINE and one["num_samples"] == row["num_samples"]]
    saved = {f"{name}_saving": _saving(row[key], same[0][key]) if same else None
             for name, key in (("flops", "tflop"), ("vram", "peak_gib"))}  # fmt: skip
    return {**row, **saved}


def _saving(value: float, baseline: float) -> float:
    return round(100 * (1 - value / baseline), 1)


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table, and what a further candidate costs beside the paper's savings."""
    lines = [
        "| verifier | N | TFLOP | saved against CLIP | peak GiB | saved against CLIP | TFLOP by stage |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        stages = ", ".join(f"{name} {value / TERA:.2f}" for name, value in row["flops"].items())
        lines.append(
            f"| {row['verifier']} | {row['num_samples']} | {row['tflop']:.2f} | {_percent(row['flops_saving'])} | "
            f"{row['peak_gib']:.2f} | {_percent(row['vram_saving'])} | {stages} |"
        )
    return "\n".join([*lines, "", *_beside_the_paper(rows)])


def _beside_the_paper(rows: Sequence[Row]) -> list[str]:
    """What a further candidate costs, which the paper's figures are of, and those."""
    paper = yaml.safe_load((PROJECT / "data" / "paper_results.yaml").read_text(encoding="utf-8"))["cost"]
    figures, each = {row["verifier"]: row for row in paper["rows"]}, further_candidate(rows)
    lines = [
        "A further candidate, beside the savings that the paper states:",
        f"{paper['source']}.",
        "",
        "| verifier | TFLOP a further candidate | saved against CLIP | paper: FLOPs | VRAM | time |",
        "|---|---|---|---|---|---|",
    ]
    for label, name in PAPER.items():
        cost, published = each.get(label), figures[name]
        saved = None if cost is None or BASELINE not in each else _saving(cost, each[BASELINE])
        cells = (_percent(published.get(f"{kind}_saving")) for kind in ("flops", "vram", "time"))
        shown = "" if cost is None else f"{cost:.2f}"
        lines.append(f"| {label} ({name}) | {shown} | {_percent(saved)} | {' | '.join(cells)} |")
    return lines


def further_candidate(rows: Sequence[Row]) -> dict[str, float]:
    """TFLOP by verifier: the mean from the least to the most candidates that were counted."""
    found = {}
    for label in {row["verifier"] for row in rows}:
        own = [row for row in rows if row["verifier"] == label]
        least, most = (end(own, key=lambda row: row["num_samples"]) for end in (min, max))
        if added := most["num_samples"] - least["num_samples"]:
            found[label] = (most["tflop"] - least["tflop"]) / added
    return found


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} %"
