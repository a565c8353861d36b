"""The prompt sets that the paper trained on, read from their own files; plain prompt files are read by vhs.prompts."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vhs.errors import PromptError
from vhs.files import reading_csv

Item = str | dict[str, Any]


def read_reflect_dit(path: str | Path) -> list[Item]:
    """Distinct prompts of a Reflect-DiT table (CSV, JSON list or JSONL) with a column `prompt`, in order.

    A row's GenEval record, in a column `metadata` (JSON) or as keys of the row itself, is kept.
    """
    items: dict[str, Item] = {}
    for where, row in _rows(Path(path)):
        prompt = row.get("prompt")
        if not isinstance(prompt, str) or not prompt.strip():
            raise PromptError(f"{where}: no prompt; Reflect-DiT's tables have a column 'prompt'")
        items.setdefault(prompt.strip(), _record(row, where) or prompt.strip())
    return _some(items, path)


def read_llava(path: str | Path) -> list[Item]:
    """Distinct captions of LLaVA's pretraining JSON: the answer of each conversation, or `blip_caption` of its
    metadata file, in order."""
    items: dict[str, Item] = {}
    for where, row in _rows(Path(path)):
        text = _llava_caption(row, where)
        items.setdefault(text, text)
    return _some(items, path)


def read_llava_pairs(path: Path, pictures: Path, limit: int | None = None) -> list[tuple[Path, str]]:
    """The first pairs of LLaVA's JSON: the picture's file, which is there, and its caption. Raises PromptError."""
    found: list[tuple[Path, str]] = []
    for where, row in _rows(path):
        if len(found) == limit:
            break
        name = row.get("image")
        if not isinstance(name, str) or not (pictures / name).is_file():
            raise PromptError(f"{where}: no picture {name!r} in {pictures}; LLaVA's images.zip, unpacked, is needed")
        found.append((pictures / name, _llava_caption(row, where)))
    _some(dict(found), path)
    return found


def _llava_caption(row: Mapping[str, Any], where: str) -> str:
    caption = row.get("blip_caption")
    if caption is None:
        turns = row.get("conversations")
        said = (
            [t.get("value") for t in turns if isinstance(t, Mapping) and t.get("from") == "gpt"]
            if isinstance(turns, list)
            else []
        )
        caption = said[0] if said else None
    if not isinstance(caption, str) or not caption.strip():
        raise PromptError(
            f"{where}: no caption; a conversation with an answer 'from': 'gpt', or 'blip_caption', is needed"
        )
    return " ".join(caption.split())


FORMATS = {"reflect_dit": read_reflect_dit, "llava": read_llava}


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(file:row, row) of a CSV, a JSON list or JSONL."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f"{path}: cannot be read ({error}); a CSV, JSON or JSONL file is needed") from None
    if path.suffix.lower() == ".csv":
        reader = csv.DictReader(io.StringIO(text, newline=""))
        with reading_csv(path, reader):
            rows: Any = list(reader)
    elif text.lstrip().startswith("["):
        rows = _json(text, str(path))
    else:
        rows = [
            _json(line, f"{path}:{number}") for number, line in enumerate(text.split("\n"), start=1) if line.strip()
        ]
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise PromptError(f"{path}: row {number}: an object is needed, not {type(row).__name__}")
        yield f"{path}: row {number}", row


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PromptError(f"{where}: not valid JSON ({error})") from None


def _record(row: Mapping[str, Any], where: str) -> dict[str, Any] | None:
    record = row.get("metadata")
    if isinstance(record, str) and record.strip():
        record = _json(record, f"{where}: metadata")
    if not isinstance(record, Mapping):
        record = row
    if not record.get("tag") or not isinstance(record.get("include"), list):
        return None
    kept = {key: record[key] for key in ("tag", "include", "exclude") if record.get(key)}
    return {**kept, "prompt": row["prompt"].strip()}


def _some(items: Mapping[str, Item], path: str | Path) -> list[Item]:
    if not items:
        raise PromptError(f"{path}: no prompts in it")
    return list(items.values())
