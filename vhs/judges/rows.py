"""Where a judgement lies in a picture's row: GenEval's in the row itself, as in the release, others' under `judges`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vhs.judges.base import Judgement, Record

GENEVAL = "geneval"


def keep(row: dict[str, Any], judge: str, record: Record, judgement: Judgement) -> None:
    """Adds what a judge says of a picture to its row."""
    if judge == GENEVAL:
        row.update({"tag": record["tag"], **judgement.fields()})
    else:
        row.setdefault("judges", {})[judge] = judgement.fields()


def kept(row: Mapping[str, Any], judge: str) -> Mapping[str, Any] | None:
    """What a judge said of a picture; None where it did not judge it."""
    if judge == GENEVAL:
        return row if "correct" in row else None
    return row.get("judges", {}).get(judge)
