"""Prompt files: JSON and JSONL (GenEval's, GenEval 2's), CSV (a column `prompt` or `text`, or DrawBench's), and plain
text with one prompt a line (T2I-CompBench's)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vhs.errors import PromptError
from vhs.records import TAGS, Prompt

TEXT_KEYS = ("prompt", "text")
DRAWBENCH = ("Prompts", "Category")
BENCHMARK_KEYS = ("tag", "include", "vqa_list", "Category")
"""A record with one of these is kept whole, for a judge that knows it."""

Check = Callable[[Mapping[str, Any], str], None]


def read_prompts(path: str | Path, check: Check | None = None) -> list[Prompt]:
    """The prompts of a file, numbered from 0 in file order; blank lines do not count.

    `.json` is a list of GenEval records or of strings, `.jsonl` one of either per line, `.csv` and `.tsv` have a
    header; every other name is plain text. `check(record, "file:line")` is called on every prompt's record and raises
    where a judge cannot judge it. Raises PromptError that names file and line.
    """
    path = Path(path)
    text = _read_text(path)
    readers = {".json": _json_items, ".jsonl": _jsonl_items, ".csv": _table_items, ".tsv": _table_items}
    items = readers.get(path.suffix.lower(), _plain_items)(text, path)
    prompts = []
    for number, (line, item) in enumerate(items):
        prompts.append(_prompt(number, item, f"{path}:{line}"))
        if check is not None:
            check(prompts[-1].record, f"{path}:{line}")
    if not prompts:
        raise PromptError(f"{path}: no prompts in it; write one a line, or GenEval records as JSON")
    return prompts


def _read_text(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise PromptError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8") from None
    except OSError as error:
        raise PromptError(
            f"{path}: cannot be read ({error.strerror}); give a JSON, JSONL, CSV or text file of prompts as annotation"
        ) from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise PromptError(f"{path}:{line}: a binary file; a JSON, JSONL, CSV or text file is needed")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _json_items(text: str, path: Path) -> Iterator[tuple[int, Any]]:
    """(line, item) of a JSON list; a file of one JSON object a line is read as JSONL whatever its name."""
    start = len(text) - len(text.lstrip())
    if not text[start:].startswith("["):
        yield from _jsonl_items(text, path)
        return
    decoder = json.JSONDecoder()
    position = _skip(text, start + 1)
    while text[position : position + 1] != "]":
        try:
            item, end = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise PromptError(f"{path}:{error.lineno}: not valid JSON: {error.msg} (column {error.colno})") from None
        yield _line(text, position), item
        position = _skip(text, end)
        if text[position : position + 1] == ",":
            position = _skip(text, position + 1)
        elif text[position : position + 1] != "]":
            raise PromptError(f"{path}:{_line(text, position)}: not valid JSON: ',' or ']' is needed after a record")
    if text[position + 1 :].strip():
        raise PromptError(f"{path}:{_line(text, _skip(text, position + 1))}: more text after the end of the JSON list")


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _jsonl_items(text: str, path: Path) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except json.JSONDecodeError as error:
            raise PromptError(
                f"{path}:{number}: not valid JSON: {error.msg} (column {error.colno}); one JSON object a line is needed"
            ) from None


def _table_items(text: str, path: Path) -> Iterator[tuple[int, Any]]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    rows = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    try:
        header = [cell.strip() for cell in next(rows, [])]
        column = next((header.index(key) for key in (*TEXT_KEYS, DRAWBENCH[0]) if key in header), None)
        category = header.index(DRAWBENCH[1]) if set(DRAWBENCH) <= set(header) else None
        if column is None:
            raise PromptError(f"{path}:1: no column 'prompt' or 'text', only {', '.join(header) or 'an empty line'}")
        own = header.index("id") if "id" in header else None
        end = rows.line_num
        for row in rows:
            line, end = end + 1, rows.line_num
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(header):
                raise PromptError(
                    f"{path}:{line}: {len(row)} cells where the header has {len(header)}; "
                    "put a prompt that contains a comma in double quotes"
                )
            named = {"id": row[own]} if own is not None else {}
            tagged = {DRAWBENCH[1]: row[category]} if category is not None else {}
            yield line, {"prompt": row[column], **named, **tagged}
    except csv.Error as error:
        raise PromptError(f"{path}:{rows.line_num}: not valid CSV: {error}") from None


def _plain_items(text: str, path: Path) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line


def _prompt(number: int, item: Any, where: str) -> Prompt:
    if isinstance(item, str):
        item = {"prompt": item}
    if not isinstance(item, Mapping):
        raise PromptError(
            f"{where}: {_short(item)} is neither a prompt nor a record; an object with a key 'prompt' is needed"
        )
    key = next((key for key in TEXT_KEYS if key in item), None)
    if key is None:
        raise PromptError(f"{where}: a record without 'prompt'; it has {', '.join(map(str, item)) or 'no keys'}")
    if not isinstance(item[key], str) or not item[key].strip():
        raise PromptError(f"{where}: {key} is {_short(item[key])}; a text that is not empty is needed")
    metadata = dict(item) if any(known in item for known in BENCHMARK_KEYS) else None
    if metadata is not None:
        _check_record(metadata, where)
        metadata["prompt"] = item[key]
    own = item.get("id")
    return Prompt(number, item[key].strip(), metadata, None if own is None or metadata is not None else str(own))


def _check_record(record: Mapping[str, Any], where: str) -> None:
    """The shape of a GenEval record; class names are checked by the evaluator, which knows its detector's."""
    for key in ("include", "exclude"):
        entries = record.get(key, [])
        if not isinstance(entries, list) or not all(isinstance(e, Mapping) for e in entries):
            raise PromptError(
                f"{where}: {key} is {_short(entries)}; a list of objects with 'class' and 'count' is needed"
            )
        for entry in entries:
            count = entry.get("count")
            if (
                not isinstance(entry.get("class"), str)
                or isinstance(count, bool)
                or not isinstance(count, int)
                or count < 1
            ):
                raise PromptError(
                    f"{where}: {key} has {_short(entry)}; 'class' (text) and 'count' (1 or more) are needed"
                )
    tag = record.get("tag")
    if tag is not None and not isinstance(tag, str):
        raise PromptError(f"{where}: tag is {_short(tag)}; one of {', '.join(TAGS)} is needed for GenEval to judge it")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."
