"""Where a path of a configuration is: the one rule for every key."""

from __future__ import annotations

from pathlib import Path

from vhs.errors import ConfigError

_PACKAGED = Path(__file__).resolve().parent / "_project"

IN_CHECKOUT = not _PACKAGED.is_dir()
"""The package runs from a clone (or an editable install of one), not from an installed wheel."""

PROJECT = Path(__file__).resolve().parents[1] if IN_CHECKOUT else _PACKAGED
"""The folder that holds configs/, data/ and ckpts/tiny/: the clone, else the copy that setup.py puts into the wheel."""


def find(path: str | Path) -> Path:
    """`path` with `~` expanded, as it stands where it exists, else the same path in the project's folder where that
    exists; a path that exists nowhere is returned as it stands. Raises ConfigError where `~` names no home."""
    path = expanded(path)
    inside = PROJECT / path
    return inside if not path.exists() and not path.is_absolute() and inside.exists() else path


def expanded(path: str | Path) -> Path:
    """`path` with `~` expanded: where outputs are written. Raises ConfigError where `~` names no home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ConfigError(
            f"{path}: no home folder to put in the place of {Path(path).parts[0]}; write it out"
        ) from None
