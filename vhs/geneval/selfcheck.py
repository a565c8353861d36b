"""Is this the detector that it should be? Known answers, before any picture is judged."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vhs.errors import CheckpointError, ConfigError
from vhs.geneval.metadata import read_names
from vhs.geneval.mmdet_names import PUBLISHED
from vhs.geneval.rules import Thresholds
from vhs.paths import find

if TYPE_CHECKING:
    from vhs.geneval.evaluate import GenEval

FOLDER = "data/selfcheck"
COCO_NAMES = "data/object_names.txt"


def check_files(names: Sequence[str], checkpoint: str | Path, converted_from: str | None = None) -> None:
    """For COCO's classes: raises unless the file is GenEval's detector and its classes are in GenEval's order.

    `converted_from` is the SHA-256 of the .pth that a transformers folder was made from, where its config.json says so.
    """
    coco = read_names(find(COCO_NAMES))
    if len(set(names) & set(coco)) > len(coco) // 2 and tuple(names) != coco:
        wrong = next(
            (i for i, pair in enumerate(zip(names, coco, strict=False)) if pair[0] != pair[1]), min(len(names), 80)
        )
        raise ConfigError(
            f"object_names: line {wrong + 1} differs from GenEval's list; labels are mapped by index, use {COCO_NAMES}"
        )
    if tuple(names) != coco:
        return
    from vhs.geneval.mmdet_checkpoint import file_digest

    digest = converted_from or (file_digest(checkpoint) if Path(checkpoint).is_file() else "")
    if digest[:8] not in PUBLISHED:
        found = f"SHA-256 begins with {digest[:8]}" if digest else "the folder was not made from GenEval's file"
        raise CheckpointError(
            f"{checkpoint}: not GenEval's detector ({found}); {PUBLISHED['c9d0c4f2']} is: other weights, other scores"
        )


def check_thresholds(thresholds: Thresholds) -> None:
    """Raises ConfigError unless the thresholds are the official evaluator's."""
    if thresholds != Thresholds():
        raise ConfigError(f"thresholds: {thresholds} are not GenEval's {Thresholds()}")


def check_answers(judge: GenEval) -> int:
    """Judges the shipped pictures for the detector's classes; returns how many claims were checked (0: none shipped).

    Raises ConfigError for thresholds other than GenEval's, CheckpointError for the first claim that it gets wrong.
    """
    check_thresholds(judge.thresholds)
    claims = known_answers(judge.names)
    if not claims:
        return 0
    from vhs.pictures import open_picture

    pictures = [open_picture(find(FOLDER) / claim["image"]) for claim in claims]
    verdicts = judge.judge_batch(pictures, [claim["metadata"] for claim in claims])
    for claim, verdict in zip(claims, verdicts, strict=True):
        if verdict.correct != claim["correct"]:
            answer = "judged correct" if verdict.correct else f"judged wrong ({'; '.join(verdict.reason.splitlines())})"
            raise CheckpointError(
                f"self-check: {FOLDER}/{claim['image']} as {claim['metadata']['prompt']!r} was {answer}; "
                "the detector or the colour classifier is not the one that belongs to these object names"
            )
    return len(claims)


def known_answers(names: Sequence[str]) -> list[Mapping[str, Any]]:
    """The shipped claims {image, metadata, correct} about these classes."""
    for path in sorted(find(FOLDER).glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["object_names"] == list(names):
            return content["claims"]
    return []
