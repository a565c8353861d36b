"""Verdicts and captions beside a collected set: a JSON object per line, a line per sample.

labels.jsonl    {"prompt_id", "candidate", "correct", "reason"}     written by label.py from GenEval's verdicts
captions.jsonl  {"prompt_id", "candidate", "caption"}               written by label.py from an image-text model
more.jsonl      {"prompt_id", "candidate", "prompt", "correct"}     verdicts on other prompts than the sample's own
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vhs.checkpoints.boundary import loading
from vhs.errors import ConfigError, RunError
from vhs.files import KeyTwiceError, parse_json, write_bytes
from vhs.processes import Process
from vhs.training.data.shards import is_remote
from vhs.training.data.store import CollectedSet
from vhs.training.made import Made

PART = 1000
"""Samples between two saved parts of a file that is being made."""

Progress = Callable[[int], None]
Judge = Callable[[list, list[Mapping[str, Any]]], list]


def read_rows(data: CollectedSet, file: str, key: str, kind: type) -> dict[int, Any]:
    """`key` of every line of `file`, by sample index.

    Raises ConfigError that names file and line for a line that is not whole, a sample that was not collected, or a
    sample with two values.
    """
    found: dict[int, Any] = {}
    for where, index, (value,) in _rows(data, file, {key: kind}):
        if found.setdefault(index, value) != value:
            raise ConfigError(f"{where}: {data.name(index)} was already given another {key}")
    return found


def _rows(
    data: CollectedSet, file: str, keys: Mapping[str, type], remedy: str = "write it with verifier_scripts/label.py"
) -> Iterator[tuple[str, int, list[Any]]]:
    """Place, sample index and the values of `keys` of every line."""
    path = data.folder / file
    if not path.exists():
        raise ConfigError(f"{path}: no such file; {remedy}")
    positions = {prompt.id: position for position, prompt in enumerate(data.prompts)}
    with loading("file of labels or captions", path, remedy), path.open(encoding="utf-8") as lines:
        # str.splitlines would also cut at U+2028, which captions contain
        for number, line in enumerate(lines, start=1):
            where = f"{path}:{number}"
            yield where, *_row(line, where, positions, data.layout.candidates, keys)


def _row(
    line: str, where: str, positions: Mapping[int, int], candidates: int, keys: Mapping[str, type]
) -> tuple[int, list[Any]]:
    try:
        row = parse_json(line)
        prompt, candidate, values = row["prompt_id"], row["candidate"], [row[key] for key in keys]
    except KeyTwiceError as error:
        raise ConfigError(f"{where}: the object {error}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        needed = ", ".join(["prompt_id", "candidate", *keys])
        raise ConfigError(f"{where}: a JSON object with {needed} is needed") from None
    given = {"prompt_id": (prompt, int), "candidate": (candidate, int)}
    given |= {key: (value, kind) for (key, kind), value in zip(keys.items(), values, strict=True)}
    for key, (value, kind) in given.items():
        if type(value) is not kind:  # true is an int to isinstance, and 1.0 finds 1 in a dict
            raise ConfigError(f"{where}: {key} is {value!r}; {kind.__name__} is needed")
    if prompt not in positions or not 0 <= candidate < candidates:
        raise ConfigError(f"{where}: prompt {prompt} candidate {candidate} has no features in the set")
    return positions[prompt] * candidates + candidate, values


def read_more_labels(data: CollectedSet, file: str) -> list[tuple[int, str, bool]]:
    """(sample index, prompt, verdict) of each line: verdicts on pictures as answers to other prompts than their own."""
    keys = {"prompt": str, "correct": bool}
    rows = _rows(data, file, keys, "more_labels names a file of your own (docs/training.md); leave it out for none")
    found: dict[tuple[int, str], bool] = {}
    for where, index, (prompt, correct) in rows:
        if found.setdefault((index, prompt), correct) != correct:
            raise ConfigError(f"{where}: {data.name(index)} was already given another verdict on {prompt!r}")
    return [(index, prompt, correct) for (index, prompt), correct in found.items()]


def read_labels(data: CollectedSet, file: str = "labels.jsonl") -> dict[int, bool]:
    """The verdict on every sample whose prompt GenEval can judge, by sample index.

    Raises ConfigError when one of them has none.
    """
    labels = read_rows(data, file, "correct", bool)
    without = [i for i in range(len(data)) if i not in labels and data.prompt(i).judged]
    if without:
        raise ConfigError(
            f"{data.folder / file}: {len(without)} samples without a label, first "
            f"{data.name(without[0])}; run label.py again"
        )
    return labels


def read_captions(data: CollectedSet, file: str | None) -> dict[int, str]:
    """The caption of every sample, by sample index; without a file it is the prompt."""
    if file is None:
        return {index: data.prompt(index).text for index in range(len(data))}
    captions = read_rows(data, file, "caption", str)
    if not captions:
        raise ConfigError(f"{data.folder / file}: no captions in it; run label.py again")
    return captions


def write_labels(
    data: CollectedSet,
    judge: Judge,
    file: str = "labels.jsonl",
    *,
    source: str = "",
    batch: int = 64,
    process: Process = Process(),
    progress: Progress = lambda done: None,
    made: Made | None = None,
) -> dict[str, int]:
    """Judges the pictures of a set and writes the verdicts. `judge(pictures, metadatas)` gives Verdicts.

    Prompts that GenEval cannot judge get no line. Returns counts: yes, no, unjudged.
    """
    judged = [index for index in range(len(data)) if data.prompt(index).judged]

    def lines(indices: Sequence[int]) -> list[str]:
        verdicts = judge([data.picture(i) for i in indices], [data.prompt(i).metadata for i in indices])
        return [
            line_of(data, index, correct=bool(verdict.correct), reason=verdict.reason)
            for index, verdict in zip(indices, verdicts, strict=True)
        ]

    write_rows(data, judged, lines, file, source=source, batch=batch, process=process, progress=progress, made=made)
    return count_labels(data, file) if process.first else {}


def count_labels(data: CollectedSet, file: str) -> dict[str, int]:
    """How many samples were judged right, wrong, and not at all."""
    found = read_rows(data, file, "correct", bool)
    yes = sum(found.values())
    return {"yes": yes, "no": len(found) - yes, "unjudged": len(data) - len(found)}


def write_rows(
    data: CollectedSet, indices: Sequence[int], lines: Callable[[Sequence[int]], list[str]], file: str, **options: Any
) -> None:
    """Writes a set's `file` with the lines of its samples; `options` are `write_parts`'s."""
    write_parts(data.folder / file, indices, lines, **options)


def write_parts(
    file: Path,
    indices: Sequence[int],
    lines: Callable[[Sequence[int]], list[str]],
    *,
    source: str = "",
    batch: int = 64,
    process: Process = Process(),
    progress: Progress = lambda done: None,
    made: Made | None = None,
) -> None:
    """Writes `file` with the lines of all indices, `batch` at a time, in parts that a stopped run goes on from.

    Processes share the parts; the file appears when all are there, in place of an older one, with the record of how it
    was `made`. `source` says what the lines come from. Raises RunError when the parts there are of another source.
    """
    parts = _parts(file)
    if process.first:
        _forget(file)
    note = parts / "source.txt"
    before = note.read_text(encoding="utf-8", errors="replace") if note.exists() else source
    if before != source and not (made and made.overwrite):
        raise RunError(f"{parts}: parts of another run ({before}), now {source}; remove the folder to start over")
    process.wait()
    if process.first:
        if before != source:
            _drop(file)
        write_bytes(note, source.encode())
    process.wait()
    chunks = [indices[start : start + PART] for start in range(0, len(indices), PART)]
    paths = [parts / f"{number:06d}.jsonl" for number in range(len(chunks))]
    for number in process.of(range(len(chunks))):
        if not paths[number].exists():
            said: list[str] = []
            for start in range(0, len(chunks[number]), batch):
                chunk = chunks[number][start : start + batch]
                said += lines(chunk)
                progress(len(chunk))
            write_bytes(paths[number], "".join(said).encode())
    process.wait()
    if process.first:
        content = b"".join(path.read_bytes() for path in paths)
        if made is not None:
            made.write({file: content})
        else:
            write_bytes(file, content)
        _drop(file)


def _parts(file: Path) -> Path:
    return file.with_name(f"{file.name}.parts")


def _drop(file: Path) -> None:
    """Removes the parts of a file, in one step for whoever comes next."""
    os.rename(_parts(file), file.with_name(f".{file.name}.parts.old"))
    _forget(file)


def tidy(file: Path, source: str) -> None:
    """Removes what is left of the parts of a finished file, where the writing was stopped at its very end."""
    note = _parts(file) / "source.txt"
    if note.exists() and note.read_text(encoding="utf-8", errors="replace") == source:
        _drop(file)
    _forget(file)


def _forget(file: Path) -> None:
    """Removes the parts that were dropped."""
    shutil.rmtree(file.with_name(f".{file.name}.parts.old"), ignore_errors=True)


def line_of(data: CollectedSet, index: int, **values: Any) -> str:
    """One line of a labels or captions file."""
    candidate = index % data.layout.candidates
    return json.dumps({"prompt_id": data.prompt(index).id, "candidate": candidate, **values}, ensure_ascii=False) + "\n"


def labelled_sets(folders: Iterable[str]) -> list[CollectedSet]:
    """Sets with pictures, beside which files are written. Raises ConfigError for one that is not in a folder here."""
    sets = [CollectedSet(folder) for folder in folders]
    for data in sets:
        if is_remote(data.folder):
            raise ConfigError(f"{data.folder}: files are written beside a set; label it in a folder here, then copy it")
        data.picture(0)  # raises where none were kept
    return sets
