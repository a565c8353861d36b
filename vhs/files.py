"""Files of a run and of a checkpoint: written whole or not at all, read with errors that name them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vhs.errors import CheckpointError, PromptError, RunError, VHSError, first_line

if TYPE_CHECKING:
    from pydantic import TypeAdapter

LONGEST_KEY = 80
"""Characters of a key that a message shows."""


BYTES_PER_PIXEL = {"png": 2.0, "jpg": 0.4, "webp": 0.2}
"""Of a saved picture, a rule of thumb for how much disk many will take."""


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turns what a library raises while it writes below `place`, on a full disk for example, into a RunError."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        said = getattr(error, "strerror", None) or first_line(error)
        raise RunError(f"{place}: cannot be written ({said}); check the disk and output_path") from error


class KeyTwiceError(ValueError):
    """A JSON object that has a key twice: json.loads would drop one of the values."""


def parse_json(text: str) -> Any:
    """The JSON value in a text. Raises ValueError (KeyTwiceError for an object with a key twice) or RecursionError."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                shown = json.dumps(key if len(key) <= 80 else f"{key[:77]}...", ensure_ascii=False)
                raise KeyTwiceError(f"has the key {shown} twice; remove one of them")
            found[key] = value
        return found

    return json.loads(text, object_pairs_hook=unique)


def require_text(value: Any) -> None:
    """Raises ValueError for a value with half of a surrogate pair in a text, which no file and no model takes."""
    try:
        json.dumps(value, ensure_ascii=False, default=str, skipkeys=True).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{error.object[error.start]!r} is half of a character") from None


def read_json(path: Path, error: type[VHSError] = RunError, remedy: str = "run again with cont: false") -> Any:
    """A JSON file. Raises `error`, naming the file, with the remedy."""
    try:
        text = path.read_text(encoding="utf-8")
        value = json.loads(text)
        if "\\ud" in text.lower():
            require_text(value)
        return value
    except FileNotFoundError:
        raise error(f"{path}: is missing; {remedy}") from None
    except (OSError, ValueError, RecursionError) as problem:
        raise error(f"{path}: is not valid JSON ({problem}); {remedy}") from None


@cache
def _of_class(form: type) -> TypeAdapter[Any]:
    """What checks values of a form that a file per candidate has: making it takes longer than the file's reading."""
    from pydantic import TypeAdapter

    return TypeAdapter(form)


def read_form(
    path: Path, form: Any, error: type[VHSError] = RunError, remedy: str = "run again with cont: false"
) -> Any:
    """A JSON file of the form that a type says, such as `dict[str, list[float]]` or a TypedDict, which may have further
    keys. Raises `error`, naming file and key."""
    from pydantic import TypeAdapter, ValidationError

    value = read_json(path, error, remedy)
    adapter = _of_class(form) if isinstance(form, type) else TypeAdapter(form)
    try:
        adapter.validate_python(value, strict=True)
    except ValidationError as problem:
        first = problem.errors()[0]
        key = ".".join(map(str, first["loc"]))[:LONGEST_KEY]
        raise error(f"{path}: {key + ': ' if key else ''}{first['msg']}; {remedy}") from None
    return value


def read_json_object(
    path: Path, error: type[VHSError] = CheckpointError, remedy: str = "download the checkpoint again"
) -> dict[str, Any]:
    """A JSON file that holds an object, a checkpoint's config.json for example. Raises `error`, naming the file."""
    value = read_json(path, error, remedy)
    if not isinstance(value, dict):
        raise error(f"{path}: is not a JSON object; {remedy}")
    return value


@contextmanager
def reading_csv(path: Path, rows: Any) -> Iterator[None]:
    """What the csv module finds wrong inside the context becomes a PromptError that names the line; `rows` is its
    reader of the file."""
    import csv

    try:
        yield
    except csv.Error as error:
        raise PromptError(f"{path}:{rows.line_num}: not valid CSV, from here on: {error}") from None


def write_json(path: Path, value: Any) -> None:
    """Writes JSON, the same bytes for the same value, whole or not at all."""
    write_bytes(path, as_json(value))


def as_json(value: Any) -> bytes:
    """A JSON file's bytes, the same for the same value."""
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file under a hidden name beside its place, then renames it. Raises RunError that names it."""
    draft = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(data)
        os.replace(draft, path)
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror}); check the disk and output_path") from None
