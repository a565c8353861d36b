"""Which collected feature a verifier should read: the cheapest within a margin of the best.

Pure functions on what `vhs.training.evaluation.figures` gives for several verifiers of the same candidates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from vhs.bootstrap import RESAMPLES, Interval, bootstrap
from vhs.verifiers.feature_names import blocks_in

AFTER_ALL_BLOCKS = ("latent", "clip")
"""Features of finished candidates, the dearer last: pictures have to be decoded and encoded besides."""


def cost_order(feature: str) -> tuple[int, int, int]:
    """Sorts features by what a candidate costs until they are there: blocks in their order (of several the last),
    then finished latents, then CLIP features of pictures."""
    if feature in AFTER_ALL_BLOCKS:
        return 1, AFTER_ALL_BLOCKS.index(feature), 1
    return 0, blocks_in(feature)[-1], len(blocks_in(feature))


def difference(found: dict[str, Any], reference: dict[str, Any], resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Best-of-N of one verifier less that of another on the same candidates, paired by prompt."""
    pairs = list(zip(found["per_prompt"], reference["per_prompt"], strict=True))
    assert all(a["prompt"] == b["prompt"] for a, b in pairs), "the verifiers saw other candidates"
    return bootstrap([a["best"] - b["best"] for a, b in pairs], [a["prompt"] for a, _ in pairs], resamples, seed)


def choose(found: Mapping[str, dict[str, Any]], margin: float, resamples: int = RESAMPLES, seed: int = 0) -> dict:
    """The cheapest feature whose best-of-N is less than `margin` (0 to 1) below the best one's.

    `found` holds each feature's figures. Returns `chosen`, `best`, and per feature, cheapest first, its curve, its AUC
    and `behind`: how far it is behind the best, with an interval over prompts.
    """
    features = sorted(found, key=cost_order)
    best = max(features, key=lambda name: found[name]["best_of"][-1]["verifier"]["mean"])
    behind = {name: difference(found[best], found[name], resamples, seed) for name in features}
    chosen = next(name for name in features if behind[name].mean <= margin)
    rows = [
        {
            "feature": name,
            "behind": asdict(behind[name]),
            "best_of": found[name]["best_of"],
            "within_prompt_auc": found[name]["within_prompt_auc"],
        }
        for name in features
    ]
    return {"chosen": chosen, "best": best, "margin": margin, "features": rows}


def table(choice: dict[str, Any]) -> str:
    """The choice as lines for a terminal: rates in percent with intervals, a line per feature, cheapest first."""

    def ci(value: dict[str, float]) -> str:
        return f"{100 * value['mean']:5.1f} [{100 * value['low']:.1f}, {100 * value['high']:.1f}]"

    rows = choice["features"]
    curve = rows[0]["best_of"]
    heads = [*(f"best of {row['n']}" for row in curve), "behind the best", "AUC"]
    lines = [
        f"a perfect pick of {curve[-1]['n']}: {ci(curve[-1]['oracle'])}",
        f"{'feature':12s}" + "".join(f"{head:>21s}" for head in heads),
    ]
    for row in rows:
        auc = row["within_prompt_auc"]
        cells = [*(ci(point["verifier"]) for point in row["best_of"]), ci(row["behind"])]
        cells.append(f"{auc['mean']:.3f} [{auc['low']:.3f}, {auc['high']:.3f}]")
        mark = "  <- chosen" if row["feature"] == choice["chosen"] else ""
        lines.append(f"{row['feature']:12s}" + "".join(f"{cell:>21s}" for cell in cells) + mark)
    sure = next(row["behind"]["high"] for row in rows if row["feature"] == choice["chosen"]) <= choice["margin"]
    lines.append(
        f"{choice['chosen']} is the cheapest within {100 * choice['margin']:g} points of {choice['best']}"
        + ("" if sure else ", but its interval reaches further; more prompts would tell")
    )
    return "\n".join(lines)
