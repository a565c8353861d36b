"""Prompt files: JSON and JSONL (GenEval's, GenEval 2's), CSV (a column `prompt` or `text`, or DrawBench's), and plain
text with one prompt a line (T2I-CompBench's)."""

from __future__ import annotations

import csv
import difflib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vhs.config.yamlfile import nearest
from vhs.errors import PromptError
from vhs.files import KeyTwiceError, parse_json, reading_csv
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
    where a judge cannot judge it. Raises PromptError that names file and line, of a JSON list file and record.
    """
    path = Path(path)
    text = _read_text(path)
    readers = {".json": _json_items, ".jsonl": _jsonl_items, ".csv": _table_items, ".tsv": _table_items}
    items = readers.get(path.suffix.lower(), _plain_items)(text, path)
    prompts = []
    for number, (place, item) in enumerate(items):
        prompts.append(_prompt(number, item, f"{path}{place}"))
        if check is not None:
            check(prompts[-1].record, f"{path}{place}")
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


def _json_items(text: str, path: Path) -> Iterator[tuple[str, Any]]:
    """A JSON list's items, each with its place; a file of one JSON object a line is read as JSONL whatever its name."""
    if not text.lstrip().startswith("["):
        yield from _jsonl_items(text, path)
        return
    for number, item in enumerate(_parsed(text, path, 1), start=1):
        yield f": record {number}", item


def _jsonl_items(text: str, path: Path) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f":{number}", _parsed(line, path, number, "; one JSON object a line is needed")


def _parsed(text: str, path: Path, first_line: int, remedy: str = "") -> Any:
    """The JSON value in `text`, which begins on line `first_line` of the file."""

    try:
        return parse_json(text)
    except KeyTwiceError as error:
        raise PromptError(f"{path}:{first_line}: a record {error}") from None
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        raise PromptError(f"{path}:{line}: not valid JSON: {error.msg} (column {error.colno}){remedy}") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, nested beyond any record
        raise PromptError(f"{path}:{first_line}: not a prompt record: {error}") from None


def _table_items(text: str, path: Path) -> Iterator[tuple[str, Any]]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    rows = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    with reading_csv(path, rows):
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
            yield f":{line}", {"prompt": row[column], **named, **tagged}


def _plain_items(text: str, path: Path) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f":{number}", line


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
    _check_text(item[key], where)
    metadata = dict(item) if any(known in item for known in BENCHMARK_KEYS) else None
    if metadata is not None:
        _check_record(metadata, where)
        metadata["prompt"] = item[key]
    own = item.get("id")
    return Prompt(number, item[key].strip(), metadata, None if own is None or metadata is not None else str(own), where)


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
    if "vqa_list" not in record:
        _check_tag(record, where)


def _check_tag(record: Mapping[str, Any], where: str) -> None:
    """A record with a tag or an `include` is GenEval's, and has both."""
    if not ({"tag", "include"} & set(record)):
        return
    tag = record.get("tag")
    if tag not in TAGS:
        hint = nearest(tag, TAGS) if isinstance(tag, str) else ""
        raise PromptError(f"{where}: tag is {_short(tag)}{hint or '; one of ' + ', '.join(TAGS) + ' is needed'}")
    if not record.get("include"):
        near = next((key for key in difflib.get_close_matches("include", record, n=2) if key != "include"), None)
        what = f"; is {near} meant to be include?" if near and "include" not in record else ""
        raise PromptError(
            f"{where}: include is {'empty' if 'include' in record else 'missing'}{what or '; a list is needed'}"
        )


def _check_text(text: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise PromptError(
            f"{where}: has half of a character ({_short(text[error.start : error.end])}), which no text can have; "
            "write the character itself"
        ) from None


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= 80 else text[:77] + "..."
