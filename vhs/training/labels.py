"""Verdicts and captions beside a collected set: one JSON object a line, one line a sample.

    labels.jsonl    {"prompt_id", "candidate", "correct", "reason"}     written by label.py from GenEval's verdicts
    captions.jsonl  {"prompt_id", "candidate", "caption"}               written by label.py from an image-text model
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vhs.errors import ConfigError
from vhs.training.store import CollectedSet, write_whole

Judge = Callable[[list, list[Mapping[str, Any]]], list]


def read_rows(data: CollectedSet, file: str, key: str, kind: type) -> dict[int, Any]:
    """`key` of every line of `file`, by sample index.

    Raises ConfigError that names file and line for a line that is not whole, a sample that was not collected, or a
    sample with two values.
    """
    path = data.folder / file
    if not path.exists():
        raise ConfigError(f"{path}: no such file; write it with verifier_scripts/label.py")
    positions = {prompt.id: position for position, prompt in enumerate(data.prompts)}
    found: dict[int, Any] = {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        index, value = _row(line, f"{path}:{number}", positions, data.layout.candidates, key, kind)
        if found.setdefault(index, value) != value:
            raise ConfigError(f"{path}:{number}: {data.name(index)} was already given another {key}")
    return found


def _row(line: str, where: str, positions: Mapping[int, int], candidates: int, key: str, kind: type) -> tuple[int, Any]:
    try:
        row = json.loads(line)
        prompt, candidate, value = row["prompt_id"], row["candidate"], row[key]
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{where}: a JSON object with prompt_id, candidate and {key} is needed") from None
    if not isinstance(value, kind):
        raise ConfigError(f"{where}: {key} is {value!r}; {kind.__name__} is needed")
    if prompt not in positions or not isinstance(candidate, int) or not 0 <= candidate < candidates:
        raise ConfigError(f"{where}: prompt {prompt} candidate {candidate} has no features in the set")
    return positions[prompt] * candidates + candidate, value


def read_labels(data: CollectedSet, file: str = "labels.jsonl") -> dict[int, bool]:
    """The verdict on every sample whose prompt GenEval can judge, by sample index.

    Raises ConfigError when one of them has none.
    """
    labels = read_rows(data, file, "correct", bool)
    without = [i for i in range(len(data)) if i not in labels and data.prompt(i).judged]
    if without:
        raise ConfigError(f"{data.folder / file}: {len(without)} samples without a label, first "
                          f"{data.name(without[0])}; run label.py again")
    return labels


def read_captions(data: CollectedSet, file: str | None) -> dict[int, str]:
    """The caption of every sample, by sample index; without a file it is the prompt."""
    if file is None:
        return {index: data.prompt(index).text for index in range(len(data))}
    captions = read_rows(data, file, "caption", str)
    if not captions:
        raise ConfigError(f"{data.folder / file}: no captions in it; run label.py again")
    return captions


def write_labels(data: CollectedSet, judge: Judge, file: str = "labels.jsonl", batch: int = 64,
                 progress: Callable[[int], None] = lambda done: None) -> dict[str, int]:
    """Judges the pictures of a set and writes the verdicts, all or none. `judge(pictures, metadatas)` gives Verdicts.

    Prompts that GenEval cannot judge get no line. Returns counts: yes, no, unjudged.
    """
    judged = [index for index in range(len(data)) if data.prompt(index).judged]
    lines, yes = [], 0
    for indices in _chunks(judged, batch):
        verdicts = judge([data.picture(i) for i in indices], [data.prompt(i).metadata for i in indices])
        for index, verdict in zip(indices, verdicts, strict=True):
            lines.append(line_of(data, index, correct=bool(verdict.correct), reason=verdict.reason))
            yes += bool(verdict.correct)
        progress(len(indices))
    write_whole(data.folder / file, "".join(lines))
    return {"yes": yes, "no": len(judged) - yes, "unjudged": len(data) - len(judged)}


def line_of(data: CollectedSet, index: int, **values: Any) -> str:
    """One line of a labels or captions file."""
    candidate = index % data.layout.candidates
    return json.dumps({"prompt_id": data.prompt(index).id, "candidate": candidate, **values}, ensure_ascii=False) + "\n"


def _chunks(items: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def labels_path(folder: str | Path, file: str = "labels.jsonl") -> Path:
    return Path(folder) / file
