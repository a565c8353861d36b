"""Which files of a checkpoint a verifier needs; `vhs.checkpoints.hub` finds them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vhs.checkpoints import hub

VERIFIER_FILES = ("*.json", "*.safetensors", "*.txt", "*.jinja")


def find_folder(name: str | Path, key: str, files: Sequence[str] = VERIFIER_FILES, beside: Sequence[Path] = ()) -> Path:
    """`vhs.checkpoints.hub.find_folder` for the files of a verifier or language model: configuration, safetensors, tokenizer."""
    return hub.find_folder(name, key, files, beside)
