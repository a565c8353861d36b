"""Files of a run and of a checkpoint: written whole or not at all, read with errors that name them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from vhs.errors import CheckpointError, RunError, VHSError


def read_json(path: Path, error: type[VHSError] = RunError, remedy: str = "run again with cont: false") -> Any:
    """A JSON file. Raises `error`, naming the file, with the remedy."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise error(f"{path}: is missing; {remedy}") from None
    except (OSError, ValueError, RecursionError) as problem:
        raise error(f"{path}: is not valid JSON ({problem}); {remedy}") from None


def read_json_object(
    path: Path, error: type[VHSError] = CheckpointError, remedy: str = "download the checkpoint again"
) -> dict[str, Any]:
    """A JSON file that holds an object, a checkpoint's config.json for example. Raises `error`, naming the file."""
    value = read_json(path, error, remedy)
    if not isinstance(value, dict):
        raise error(f"{path}: is not a JSON object; {remedy}")
    return value


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
