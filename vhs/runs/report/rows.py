"""What a page shows of candidates: plain values for its script, and what its filters ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vhs.records import Prompt
from vhs.runs.report.data import RunData
from vhs.runs.report.pictures import Thumbnail

SHOWS = {
    "pick": "verifier and judge disagree about the pick",
    "some": "verifier and judge disagree about some candidate",
    "missed": "a right candidate existed and was not picked",
    "right": "right picks",
    "wrong": "wrong picks",
}
"""Filters of a run's gallery: flag -> words."""
Row = Mapping[str, Any]


def score_order(rows: Sequence[Row]) -> list[int]:
    """Candidates from the highest score to the lowest, of equal ones the first; as they come without scores."""
    return sorted(range(len(rows)), key=lambda index: (-(rows[index]["score"] or 0.0), index))


def disagrees(row: Row) -> bool:
    """The verifier's yes or no is not the judge's verdict; False where one of them is silent."""
    return "correct" in row and row["correct_verifier"] is not None and row["correct_verifier"] != row["correct"]


def flags(rows: Sequence[Row], winner: int) -> list[str]:
    """Which filters a prompt passes."""
    picked = rows[winner]
    found = {
        "pick": disagrees(picked),
        "some": any(map(disagrees, rows)),
        "missed": picked.get("correct") is False and any(row.get("correct") for row in rows),
        "right": picked.get("correct") is True,
        "wrong": picked.get("correct") is False,
    }
    return [name for name, passes in found.items() if passes]


def facts(rows: Sequence[Row], prompt: Prompt, winner: int) -> list[tuple[str, str]]:
    """(class, words) of the line under a prompt: tag, verdict on the pick, how many candidates were right, reason."""
    picked = rows[winner]
    found = [("tag", prompt.metadata["tag"])] if prompt.judged else []
    if "correct" in picked:
        found.append(("right", "✓ right pick") if picked["correct"] else ("wrong", "✗ wrong pick"))
        known = [row["correct"] for row in rows if "correct" in row]
        if len(known) > 1:
            found.append(("share", f"{sum(known)} of {len(known)} candidates right"))
        if picked["reason"]:
            found.append(("reason", "; ".join(picked["reason"].splitlines())))
    return found


def tile(data: RunData, prompt_id: int, candidate: int, picture: Thumbnail | None, place: int) -> dict[str, Any]:
    """One candidate. `place` is its picture's line in the prompt's block."""
    row = data.table.rows[prompt_id][candidate]
    pick = candidate == data.table.winners[prompt_id]
    answers = {"says": row["correct_verifier"], "yes": _digits(row["p_yes"]), "no": _digits(row["p_no"])}
    return {
        "candidate": candidate,
        "score": None if row["score"] is None else f"{row['score']:+.3f}".replace("-", "\u2212"),
        **answers,
        "right": row.get("correct"),
        "why": "; ".join(row.get("reason", "").splitlines()),
        "pick": pick,
        "disagree": disagrees(row),
        "boxes": data.boxes[prompt_id].get(candidate, []),
        "gone": None if picture else _gone(data, pick),
        "picture": place,
        "size": [picture.width, picture.height] if picture else [1, 1],
        "file": data.picture(prompt_id, candidate).relative_to(data.root).as_posix(),
    }


def _gone(data: RunData, pick: bool) -> str:
    """Why there is no picture."""
    return "not made in prod" if data.table.mode == "prod" and not pick else "picture missing"


def _digits(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"
