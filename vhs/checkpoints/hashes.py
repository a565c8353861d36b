"""What a checkpoint is by content: a Hub revision, or the SHA-256 of its files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any


def checkpoint_hash(path: str | Path) -> dict[str, Any]:
    """`{"path", "revision"}` of a Hub snapshot, `{"path", "sha256"}` of a folder's files or a file."""
    path = Path(path)
    if path.parent.name == "snapshots":
        return {"path": path.parent.parent.name.removeprefix("models--").replace("--", "/"), "revision": path.name}
    if path.is_file():
        return {"path": str(path), "sha256": file_hash(path)}
    digest = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith(".")):
        digest.update(f"{file.relative_to(path)} {file_hash(file)}\n".encode())
    return {"path": str(path), "sha256": digest.hexdigest()}


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
