"""Checks of GenEval's metadata against the classes that a detector knows; no model is needed."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vhs.errors import CheckpointError, PromptError
from vhs.files import parse_json
from vhs.geneval.rules import COLORS, RELATIONS
from vhs.records import TAGS


def read_names(path: str | Path) -> tuple[str, ...]:
    """Class names, one a line, in the order of the detector's indices."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: object_names cannot be read ({error})") from None
    names = tuple(line.strip() for line in lines if line.strip())
    if not names or len(set(names)) != len(names):
        raise CheckpointError(f"{path}: object names must be distinct, one a line, in the detector's order")
    return names


def read_metadata(path: str | Path) -> dict[str, Any]:
    """GenEval's record of one prompt folder (`metadata.jsonl`, one line)."""
    try:
        record = parse_json(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PromptError(f"{path}: missing; GenEval's record of the prompt belongs there") from None
    except (OSError, ValueError, RecursionError) as error:
        raise PromptError(f"{path}: not one JSON record ({error})") from None
    if not isinstance(record, dict):
        raise PromptError(f"{path}: not a JSON object with tag, include and prompt")
    return record


def check_metadata(metadata: Mapping[str, Any], names: Sequence[str], where: str = "metadata") -> None:
    """Raises PromptError, beginning with `where`, for a record that GenEval's rules cannot judge with these classes."""
    if metadata.get("tag") not in TAGS:
        raise PromptError(
            f"{where}: tag {metadata.get('tag')!r} is not GenEval's; {_nearest(metadata.get('tag'), TAGS)}"
        )
    if not isinstance(metadata.get("prompt"), str):
        raise PromptError(f"{where}: no prompt; the caption belongs there as text")
    for key in ("include", "exclude"):
        clauses = metadata.get(key, [])
        if not isinstance(clauses, list) or (key == "include" and not clauses):
            raise PromptError(f"{where}: {key} must be a list of clauses such as {{'class': {names[0]!r}, 'count': 1}}")
        for index, clause in enumerate(clauses):
            _check_clause(clause, index, names, f"{where}: {key}[{index}]")


def _check_clause(clause: Any, index: int, names: Sequence[str], where: str) -> None:
    if not isinstance(clause, Mapping):
        raise PromptError(f"{where} is not a clause such as {{'class': {names[0]!r}, 'count': 1}}")
    if clause.get("class") not in names:
        raise PromptError(
            f"{where} has an unknown class {clause.get('class')!r}; {_nearest(clause.get('class'), names)}"
        )
    count = clause.get("count")
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise PromptError(f"{where} has count {count!r}; a whole number from 1 would be right")
    if "color" in clause and clause["color"] not in COLORS:
        raise PromptError(f"{where} has an unknown color {clause['color']!r}; {_nearest(clause['color'], COLORS)}")
    if "position" in clause:
        _check_position(clause["position"], index, where)


def _check_position(position: Any, index: int, where: str) -> None:
    if not isinstance(position, (list, tuple)) or len(position) != 2:
        raise PromptError(f"{where} has position {position!r}; ['left of', 0] would be right")
    relation, target = position
    if relation not in RELATIONS:
        raise PromptError(f"{where} has an unknown relation {relation!r}; {_nearest(relation, RELATIONS)}")
    if not isinstance(target, int) or isinstance(target, bool) or not 0 <= target < index:
        right = (
            f"the index of an earlier include clause (0 to {index - 1})"
            if index
            else "only a later clause can have one"
        )
        raise PromptError(f"{where} has position target {target!r}; {right}")


def _nearest(word: Any, choices: Sequence[str]) -> str:
    """The choices that hold the word ("mouse": "computer mouse") or are spelt like it, or the first ten."""
    holding = [choice for choice in choices if str(word) in choice]
    close = (holding + difflib.get_close_matches(str(word), choices, n=3, cutoff=0.6))[:3]
    if close:
        return f"did you mean {' or '.join(dict.fromkeys(close))}?"
    return f"known: {', '.join(choices[:10])}{', ...' if len(choices) > 10 else ''}"
