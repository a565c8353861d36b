"""Files as a run leaves them: written whole or not at all, read with errors that name them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from vhs.errors import RunError


def read_json(path: Path) -> Any:
    """A JSON file of a run. Raises RunError that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({error}); run again with cont: false") from None


def write_json(path: Path, value: Any) -> None:
    """Writes JSON, the same bytes for the same value, whole or not at all."""
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file under a hidden name beside its place, then renames it. Raises RunError that names it."""
    draft = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(data)
        os.replace(draft, path)
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror}); check the disk and output_path") from None
