"""Verifiers and judges by name: the registries of this package, of a checkout, and of a user.

A registry is a Python file with a dict `LATENT_VERIFIER`, a dict `JUDGE`, or both: Python by design, so it is only ever
taken from where the user says (the key `registry`, the variable VHS_REGISTRY, a checkout's own file), never from a
checkpoint's folder.
"""

from __future__ import annotations

import os
import runpy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vhs.config.yamlfile import nearest
from vhs.errors import ConfigError, first_line
from vhs.paths import PROJECT, find

SHIPPED = Path(__file__).with_name("latent_verifier_dict.py")
CHECKOUT = PROJECT / "inference_scripts" / "latent_verifier_dict.py"
VARIABLE = "VHS_REGISTRY"
VERIFIERS, JUDGES = "LATENT_VERIFIER", "JUDGE"


@dataclass(frozen=True)
class Entry:
    """One entry of a registry file, as it stands there."""

    name: str
    file: Path
    values: Mapping[str, Any]

    @property
    def where(self) -> str:
        """How messages call it."""
        return f"{self.file}: {self.name}"


def load_registry(registry: str | None = None, table: str = VERIFIERS) -> dict[str, Entry]:
    """Every entry of a table of the shipped registry, of a checkout's, of the file that VHS_REGISTRY names, and of
    `registry`.

    Raises ConfigError for a file that is none, and for a name that two files give to different entries.
    """
    named = (find(name) for name in (os.environ.get(VARIABLE), registry) if name)
    files = [SHIPPED, *([CHECKOUT] if CHECKOUT.is_file() else []), *named]
    entries: dict[str, Entry] = {}
    for file in dict.fromkeys(files):
        for name, values in _read(file, table).items():
            known = entries.setdefault(name, Entry(name, file, values))
            if known.values != values:
                raise ConfigError(f"{file}: {name}: {known.file} has another entry of this name; choose another")
    return entries


def find_entry(name: str, registry: str | None = None) -> Entry:
    """The entry of this name. Raises ConfigError with the nearest names."""
    entries = load_registry(registry)
    if name not in entries:
        near = nearest(name, entries, cutoff=0.3) or f"; there are {', '.join(sorted(entries))}"
        if find(name).is_dir():
            near = f"; a checkpoint's folder is given as latent_verifier_path: {name}"
        raise ConfigError(f"latent_verifier_name: no verifier {name!r}{near}")
    return entries[name]


def _read(file: Path, table: str) -> dict[str, Mapping[str, Any]]:
    try:
        defined = runpy.run_path(str(file))
    except Exception as error:  # whatever the user's own Python raises
        raise ConfigError(
            f"{file}: the registry cannot be read ({type(error).__name__}: {first_line(error)})"
        ) from None
    known = defined.keys() & {VERIFIERS, JUDGES}
    found = defined.get(table, {}) if known else None
    if not isinstance(found, Mapping) or not all(isinstance(values, Mapping) for values in found.values()):
        what = "verifier" if table == VERIFIERS else "judge"
        raise ConfigError(f"{file}: a registry defines {table}, a dict of dicts, one for each {what}")
    return dict(found)
