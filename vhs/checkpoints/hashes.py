"""What a checkpoint is by content: a Hub revision, or the SHA-256 of its files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vhs.checkpoints.boundary import loading


def checkpoint_hash(path: str | Path) -> dict[str, Any]:
    """`{"path", "revision"}` of a Hub snapshot, `{"path", "sha256"}` of a folder's files or a file."""
    path = Path(path)
    if path.parent.name == "snapshots":
        return {"path": path.parent.parent.name.removeprefix("models--").replace("--", "/"), "revision": path.name}
    if path.is_file():
        return {"path": str(path), "sha256": file_hash(path)}
    digest = hashlib.sha256()
    for file in sorted(_files(path)):
        digest.update(f"{file.relative_to(path)} {file_hash(file)}\n".encode())
    return {"path": str(path), "sha256": digest.hexdigest()}


def content_hash(path: str | Path) -> str:
    """What `checkpoint_hash` says of the content alone: a revision or a SHA-256."""
    found = checkpoint_hash(path)
    return found.get("revision") or found["sha256"]


def _files(folder: Path) -> Iterator[Path]:
    """Every visible file below `folder`, also behind links to folders, which Path.rglob does not enter."""
    for place, inner, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        inner[:] = [name for name in inner if not _is_loop(os.path.join(place, name), real)]
        yield from (file for name in names if not name.startswith(".") and (file := Path(place, name)).is_file())


def _is_loop(folder: str, inside: str) -> bool:
    """A link to a folder that it lies in."""
    return os.path.islink(folder) and f"{inside}/".startswith(f"{os.path.realpath(folder)}/")


def file_hash(path: Path) -> str:
    """SHA-256 of a file. Raises CheckpointError where it cannot be read."""
    with loading("file", path), path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


SAMPLED_FROM, SAMPLES, SAMPLE = 2**26, 16, 2**20


def sampled_hash(path: Path) -> str:
    """SHA-256 of a file of data, such as a shard of features; from 64 MiB on, of its size and 16 places of 1 MiB, the
    first and the last among them: a set of a terabyte is not read through before a training begins."""
    with loading("file", path):
        size = path.stat().st_size
    if size < SAMPLED_FROM:
        return file_hash(path)
    digest = hashlib.sha256(str(size).encode())
    with loading("file", path), path.open("rb") as stream:
        for number in range(SAMPLES):
            stream.seek(number * (size - SAMPLE) // (SAMPLES - 1))
            digest.update(stream.read(SAMPLE))
    return digest.hexdigest()
