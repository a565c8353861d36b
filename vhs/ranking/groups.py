"""Which pictures there are, and of which prompts: a folder and its prompt, a table of (file, prompt), or GenEval's
layout, which SANA-1.5 uses too."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from vhs.errors import ConfigError, ImageError, PromptError
from vhs.geneval.folders import ENDINGS, prompt_folders
from vhs.geneval.metadata import read_metadata
from vhs.records import Prompt

PICTURE_COLUMNS = ("file", "path", "picture", "filename")
PROMPT_COLUMNS = ("prompt", "text")
COLUMNS = (PICTURE_COLUMNS, PROMPT_COLUMNS)
SHOWN = 10


@dataclass(frozen=True)
class Group:
    """A prompt and its pictures, in order."""

    prompt: Prompt
    pictures: tuple[Path, ...]


def find_groups(images: Path | None, table: Path | None, prompt: str | None) -> list[Group]:
    """What a command line names: a folder and its prompt, a table, or a folder in GenEval's layout.

    Raises a VHSError for a folder without pictures, and one that lists every picture that is missing or damaged.
    """
    if table is not None:
        groups = read_table(table, images)
    elif images is None:
        raise ConfigError("rank: name pictures by --images, or by --pictures, a table of paths and prompts")
    elif prompt is not None:
        groups = [Group(Prompt(0, prompt), _pictures_in(images))]
    elif not any(path.is_dir() for path in images.glob("*")) and images.is_dir():
        raise ConfigError(f"{images}: no folders of prompts in it; give --prompt, what its pictures should show")
    else:
        groups = read_layout(images)
    _require_readable([picture for group in groups for picture in group.pictures])
    return groups


def read_layout(root: Path) -> list[Group]:
    """GenEval's layout (`00000/metadata.jsonl`, `00000/samples/*`), SANA-1.5's, or a run of this project."""
    groups = []
    for folder in prompt_folders(root):
        metadata = read_metadata(folder / "metadata.jsonl")
        if not isinstance(metadata.get("prompt"), str):
            raise PromptError(f"{folder / 'metadata.jsonl'}: no prompt in it")
        pictures = tuple(path for path in _pictures_in(folder / "samples") if not path.stem.startswith("best_"))
        groups.append(Group(Prompt(int(folder.name), metadata["prompt"], metadata), pictures))
    return groups


def read_table(file: Path, root: Path | None = None) -> list[Group]:
    """A CSV, TSV or JSONL of (file, prompt), grouped by prompt; paths are relative to `root`, else to the table."""
    groups: dict[str, list[Path]] = {}
    for where, row in _rows(file):
        path, text = (next((row[name] for name in names if row.get(name)), None) for names in COLUMNS)
        if not isinstance(path, str) or not isinstance(text, str):
            raise PromptError(
                f"{where}: a row without {' or '.join(PICTURE_COLUMNS)}, and {' or '.join(PROMPT_COLUMNS)}"
            )
        groups.setdefault(text.strip(), []).append((root or file.parent) / path)
    if not groups:
        raise PromptError(f"{file}: no pictures in it")
    return [Group(Prompt(number, text), tuple(paths)) for number, (text, paths) in enumerate(groups.items())]


def _rows(file: Path) -> list[tuple[str, Mapping[str, Any]]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f"{file}: cannot be read ({error}); a CSV or JSONL of file and prompt is needed") from None
    if file.suffix.lower() in (".csv", ".tsv"):
        reader = csv.DictReader(io.StringIO(text), delimiter="\t" if file.suffix.lower() == ".tsv" else ",")
        missing = [names[0] for names in COLUMNS if not set(names) & set(reader.fieldnames or ())]
        if missing:
            raise PromptError(f"{file}:1: no column {' and no column '.join(missing)}; file,prompt is right")
        return [(f"{file}:{reader.line_num}", row) for row in reader]
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise PromptError(
                    f"{file}:{number}: not valid JSON ({error.msg}); one object a line is right"
                ) from None
            if not isinstance(row, Mapping):
                raise PromptError(f"{file}:{number}: not a JSON object with file and prompt")
            rows.append((f"{file}:{number}", row))
    return rows


def _pictures_in(folder: Path) -> tuple[Path, ...]:
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS and path.is_file())
    if not found:
        raise ImageError(f"{folder}: no pictures in it ({', '.join(ENDINGS)})")
    return tuple(found)


def _require_readable(pictures: Sequence[Path]) -> None:
    """Every header is read before the first picture is scored, so that nothing is ranked halfway."""
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
