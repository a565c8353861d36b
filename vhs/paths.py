"""Where a path of a configuration is: the one rule for every key."""

from __future__ import annotations

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
"""The folder that holds configs/, data/ and ckpts/."""


def find(path: str | Path) -> Path:
    """`path` with `~` expanded, as it stands where it exists, else the same path in the project's folder where that
    exists; a path that exists nowhere is returned as it stands."""
    path = Path(path).expanduser()
    inside = PROJECT / path
    return inside if not path.exists() and not path.is_absolute() and inside.exists() else path
