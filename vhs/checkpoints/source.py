"""What a configuration's keys name: a file or folder here, or a repository of the Hugging Face Hub.

One rule for every key: `~` is expanded, then a relative path is looked up in the working directory, then in the
project's folder; what is nowhere and has the form owner/name is a repository of the Hub.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from vhs.checkpoints.hashes import checkpoint_hash
from vhs.checkpoints.hub import DOWNLOAD, cached_folder, download, is_hub_id
from vhs.errors import CheckpointError
from vhs.paths import find

RELEASE_FILES = "aimagelab/vhs-checkpoints"
"""The release's dataset repository of single files: statistics of hidden states, GenEval's detector."""


@dataclass(frozen=True)
class Source:
    """What `key` names.

    `path` is the file or folder, None where it is not here; then `repository` says what of the Hub it would come from,
    and `patterns` which of its files are needed.
    """

    key: str
    name: str
    path: Path | None = None
    repository: str | None = None
    patterns: tuple[str, ...] = ()
    kind: Literal["model", "dataset"] = "model"

    @property
    def single_file(self) -> bool:
        """A file of the release, fetched to the place that the configuration names."""
        return self.kind == "dataset"

    def require(self) -> Path:
        """The path; of a repository, whatever the Hub's cache lacks of it is downloaded. Raises CheckpointError."""
        if self.path is not None and (self.repository is None or self.single_file):
            return self.path
        if self.repository is None or self.single_file:
            raise CheckpointError(f"{self.key}: {self.name} is missing; to fetch what a run needs: {DOWNLOAD}")
        return download(self.repository, self.key, self.patterns)

    def fetched(self) -> Source:
        """The same with its path known. Raises CheckpointError."""
        return replace(self, path=self.require())

    def hash(self) -> dict[str, Any]:
        """What run.json records of it."""
        assert self.path is not None, f"{self.key} is not here"
        return checkpoint_hash(self.path)


def find_model(key: str, name: str, patterns: Sequence[str], beside: Sequence[Path] = ()) -> Source:
    """A model's folder (or file), by path or Hub id; `beside` are folders to look in before the project's own.

    No network is used. Raises CheckpointError for what is neither here nor a Hub id.
    """
    for place in beside:
        if (place / name).is_dir():
            return Source(key, name, place / name, patterns=tuple(patterns))
    path = find(name)
    if path.exists():
        return Source(key, name, path, patterns=tuple(patterns))
    if not is_hub_id(name):
        raise CheckpointError(f"{key}: {name}: no such folder; give a folder or a Hub id (owner/name)")
    return Source(key, name, cached_folder(name, patterns), name, tuple(patterns))


def find_file(key: str, name: str) -> Source:
    """A file (or a folder in its place) by path; one that is not here may be among the release's files on the Hub."""
    path = find(name)
    if path.exists():
        return Source(key, name, path)
    return Source(key, name, None, RELEASE_FILES, (path.name,), "dataset")
