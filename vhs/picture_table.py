"""Tables of pictures and their prompts: CSV, TSV (columns `file`, `prompt` and perhaps `id`) or JSONL of the same."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vhs.errors import ImageError, PromptError
from vhs.files import KeyTwiceError, parse_json, reading_csv

PICTURE_COLUMNS = ("file", "path", "picture", "filename")
PROMPT_COLUMNS = ("prompt", "text")
COLUMNS = (PICTURE_COLUMNS, PROMPT_COLUMNS)
SHOWN = 10


@dataclass(frozen=True)
class ListedPicture:
    """A row: the picture, what it should show, the row's own `id` where the table has that column, and the row's place
    in the file for messages."""

    path: Path
    prompt: str
    id: str | None
    where: str


def read_picture_table(file: Path, root: Path | None = None) -> list[ListedPicture]:
    """The rows; paths are relative to `root`, else to the table. Raises PromptError that names file and line."""
    found = []
    for where, row in _rows(file):
        path, text = (next((row[name] for name in names if row.get(name)), None) for names in COLUMNS)
        if not isinstance(path, str) or not isinstance(text, str) or not text.strip():
            raise PromptError(f"{where}: a row needs {PICTURE_COLUMNS[0]} and {PROMPT_COLUMNS[0]}")
        own = row.get("id")
        found.append(
            ListedPicture((root or file.parent) / path, text.strip(), None if own is None else str(own), where)
        )
    if not found:
        raise PromptError(f"{file}: no pictures in it")
    return found


def require_readable(pictures: Sequence[Path]) -> None:
    """Reads every header, so that a bad picture is known before work begins. Raises ImageError that lists what is
    missing or no picture."""
    from PIL import Image

    bad = []
    for path in pictures:
        try:
            with Image.open(path):
                pass
        except FileNotFoundError:
            bad.append(f"{path} (missing)")
        except (OSError, ValueError, SyntaxError):
            bad.append(f"{path} (not a picture)")
    if bad:
        more = f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        raise ImageError(f"{len(bad)} of {len(pictures)} pictures cannot be read: {', '.join(bad[:SHOWN])}{more}")


def _rows(file: Path) -> list[tuple[str, Mapping[str, Any]]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f"{file}: cannot be read ({error}); a CSV or JSONL of file and prompt is needed") from None
    if file.suffix.lower() in (".csv", ".tsv"):
        reader = csv.DictReader(io.StringIO(text), delimiter="\t" if file.suffix.lower() == ".tsv" else ",")
        with reading_csv(file, reader):
            missing = [names[0] for names in COLUMNS if not set(names) & set(reader.fieldnames or ())]
            if missing:
                raise PromptError(f"{file}:1: no column {' and no column '.join(missing)}; file,prompt is right")
            return [(f"{file}:{reader.line_num}", row) for row in reader]
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                row = parse_json(line)
            except KeyTwiceError as error:
                raise PromptError(f"{file}:{number}: the object {error}") from None
            except json.JSONDecodeError as error:
                raise PromptError(
                    f"{file}:{number}: not valid JSON ({error.msg}); one object a line is right"
                ) from None
            if not isinstance(row, Mapping):
                raise PromptError(f"{file}:{number}: not a JSON object with file and prompt")
            rows.append((f"{file}:{number}", row))
    return rows
