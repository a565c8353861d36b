"""Files that a command makes, with a record beside them: by it the same command knows that it is done.

    labels.jsonl              what was made
    labels.jsonl.made.json    its configuration, hashes of what it was made from, and of the files themselves

The record is written before the files, then without their hashes, and again after them: where a process was killed in
between, the same command makes them again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NotRequired

from typing_extensions import TypedDict

from vhs.checkpoints.hashes import file_hash
from vhs.config.keys import Keys, StatisticsKeys
from vhs.errors import RunError
from vhs.files import read_form, write_bytes, write_json
from vhs.folders import changed, locked
from vhs.training.data.normalization import statistics_of
from vhs.training.data.store import CollectedSet
from vhs.verifiers.feature_names import blocks_in, statistics_keys

HOW = frozenset({"output", "data", "overwrite", "device", "batch", "micro_batch"})
"""Keys that say where things are and how fast the work runs; what is in `data` is compared by content."""


REMEDY = "overwrite=true makes it again"


class Note(TypedDict):
    """The record; of files that are not finished it has no hashes."""

    config: dict[str, Any]
    reads: dict[str, str]
    files: NotRequired[dict[str, str]]


@dataclass(frozen=True)
class Made:
    """`files`, made under the keys of `config` from `reads`, which has a hash by name."""

    files: tuple[Path, ...]
    config: Mapping[str, Any]
    reads: Mapping[str, str] = field(default_factory=dict)
    overwrite: bool = False
    kind: type[Keys] = Keys
    """Of the configuration."""

    @classmethod
    def of(cls, config: Keys, files: Sequence[Path], reads: Mapping[str, str]) -> Made:
        """What a command makes under its configuration."""
        keys = config.model_dump(mode="json", exclude=set(HOW))
        return cls(tuple(files), keys, dict(reads), getattr(config, "overwrite", False), type(config))

    @property
    def note(self) -> Path:
        """The record's file."""
        return self.files[0].with_name(f"{self.files[0].name}.made.json")

    def done(self) -> bool:
        """The files are there, made under this configuration from this.

        Raises RunError where they are of another one, were changed since, or are nobody's that is known, unless they
        may be overwritten: those of another configuration, and changed ones.
        """
        there = [file for file in self.files if file.exists()]
        if not self.note.exists():
            if there:
                raise RunError(
                    f"{there[0]}: no {self.note.name} says how it was made, so it is not written over; move it, or "
                    "choose another output"
                )
            return False
        if self.overwrite:
            return False
        former = read_form(self.note, Note, remedy=REMEDY)
        if lines := changed(self.kind.completed(former), {"config": self.config, "reads": self.reads}):
            raise RunError(
                f"{self.files[0]}: made otherwise ({'; '.join(lines[:3])}); choose another output, or overwrite=true "
                "to replace it"
            )
        return self._unchanged(former)

    def _unchanged(self, former: Mapping[str, Any]) -> bool:
        """All files are there, as they were made."""
        hashes = former.get("files", {})
        for file in self.files:
            if not file.exists() or file.name not in hashes:
                return False
            if file_hash(file) != hashes[file.name]:
                raise RunError(f"{file}: was changed since it was made; overwrite=true makes it again")
        return True

    def lock(self) -> AbstractContextManager[None]:
        """Keeps other commands from writing the same files."""
        return locked(self.files[0], "file")

    def write(self, contents: Mapping[Path, bytes], **facts: Any) -> None:
        """Writes the files and the record, `facts` in it."""
        self.begin()
        for file, data in contents.items():
            write_bytes(file, data)
        self.close(**facts)

    def begin(self) -> None:
        """Says what will be in the files, before they are written."""
        write_json(self.note, {"config": self.config, "reads": self.reads})

    def close(self, **facts: Any) -> None:
        """Says that the files are whole."""
        hashes = {file.name: file_hash(file) for file in self.files if file.exists()}
        write_json(self.note, {"config": self.config, "reads": self.reads, "files": hashes, **facts})

    def facts(self, form: Any) -> Any:
        """The record of finished files, whose facts are of this form."""
        return read_form(self.note, form, remedy=REMEDY)


def statistics_hashes(config: StatisticsKeys, feature: str) -> dict[str, str]:
    """Hashes of the files of a feature's statistics; those that are missing are left out."""
    files = statistics_of(config, feature)
    keys = statistics_keys(blocks_in(feature)) if files else []
    return {key: file_hash(file) for key, file in zip(keys, files, strict=True) if file.is_file()}


def sets_hashes(sets: Iterable[CollectedSet], files: Mapping[str, str | None] = MappingProxyType({})) -> dict[str, str]:
    """Hashes of collected sets by their number, and of `files` inside each by key; files that are missing, and keys
    without one, are left out."""
    found = {}
    for number, data in enumerate(sets):
        found[f"data[{number}]"] = data.fingerprint()
        for key, file in files.items():
            file = data.own.get(key, file)
            if file is not None and (path := data.folder / file).is_file():
                found[f"{key} of data[{number}]"] = file_hash(path)
    return found


def say_done(made: Made, say: Callable[[str], None]) -> None:
    """The line for what is there already."""
    say(f"{made.files[0]}: already done; overwrite=true makes it again")
