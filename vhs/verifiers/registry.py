"""Verifiers by name: the registry in inference_scripts/latent_verifier_dict.py, or the package's own, read as data."""

from __future__ import annotations

import difflib
import runpy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vhs.errors import ConfigError
from vhs.paths import IN_CHECKOUT, PROJECT

REGISTRY_FILE = (PROJECT / "inference_scripts" if IN_CHECKOUT else Path(__file__).parent) / "latent_verifier_dict.py"
KINDS = ("llava", "random", "none")


@dataclass(frozen=True)
class VerifierEntry:
    """One entry: `kind` llava loads `latent_verifier_path` with `vision_tower`; random and none load nothing."""

    name: str
    latent_verifier_path: str | None = None
    vision_tower: str | None = None
    resize_vocabulary: bool = False
    kind: str = "llava"


def load_registry(file: Path = REGISTRY_FILE) -> dict[str, dict[str, Any]]:
    """LATENT_VERIFIER of a registry file.

    Raises:
        ConfigError: the file is missing or does not define it.
    """
    try:
        return runpy.run_path(str(file))["LATENT_VERIFIER"]
    except (OSError, KeyError):
        raise ConfigError(
            f"{file}: no registry; name the verifier in the configuration by latent_verifier_path and vision_tower"
        ) from None


def resolve_verifier(name: str, registry: Mapping[str, Mapping[str, Any]] | None = None) -> VerifierEntry:
    """The registry's entry `name`.

    Raises:
        ConfigError: no such name (with the nearest ones), or an entry with wrong fields.
    """
    registry = load_registry() if registry is None else registry
    if name not in registry:
        near = difflib.get_close_matches(str(name), registry, n=3, cutoff=0.3) or sorted(registry)
        raise ConfigError(f"latent_verifier_name: no verifier {name!r}; did you mean {' or '.join(map(repr, near))}?")
    entry = registry[name]
    unknown = sorted(set(entry) - set(VerifierEntry.__dataclass_fields__) | {"name"} & set(entry))
    if unknown:
        raise ConfigError(f"{REGISTRY_FILE.name}: {name}: unknown field {', '.join(unknown)}; known: {_fields()}")
    resolved = VerifierEntry(name=name, **entry)
    _check(resolved)
    return resolved


def _check(entry: VerifierEntry) -> None:
    if entry.kind not in KINDS:
        raise ConfigError(f"{REGISTRY_FILE.name}: {entry.name}: kind {entry.kind!r}; one of {', '.join(KINDS)}")
    if not isinstance(entry.resize_vocabulary, bool):
        raise ConfigError(f"{REGISTRY_FILE.name}: {entry.name}: resize_vocabulary is true or false")
    if entry.kind == "llava" and not (entry.latent_verifier_path and entry.vision_tower):
        raise ConfigError(f"{REGISTRY_FILE.name}: {entry.name}: needs latent_verifier_path and vision_tower")


def _fields() -> str:
    return ", ".join(field for field in VerifierEntry.__dataclass_fields__ if field != "name")
