"""What becomes of a folder that a command is to write: nothing finished is deleted without being asked for.

    there is                        cont: false        cont: true     overwrite: true
    nothing                         start              start          start
    this work, finished             already done       already done   replace
    this work, unfinished           refused            continue       replace
    other work                      refused            refused        replace
    files that no command wrote     refused            refused        refused

What is replaced is moved aside first, to `<name>.old-<time>`, and deleted when the new work is finished. So a process
may be killed at any moment: what is there is one work or the other, and the next command goes on.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vhs.errors import BusyError, RunError
from vhs.files import write_bytes

Opening = Literal["start", "continue", "done", "replace"]

REPLACES = ".replaces"
"""A file that names the folder moved aside for the one that it is in."""


@dataclass(frozen=True)
class Kind:
    """What a folder holds, in messages: `name` ("run"), `manifest`, the file that every such folder has, what else is
    written into it (`patterns`), and the keys that choose another folder and that insist."""

    name: str
    manifest: str
    patterns: tuple[str, ...]
    elsewhere: str
    insist: str = "overwrite: true"

    def written(self, root: Path) -> list[Path]:
        """What this kind of work writes and the folder holds, hidden files too."""
        patterns = (self.manifest, *self.patterns, f".{REPLACES}.tmp", f".{self.manifest}.tmp")
        found = (path for pattern in patterns for path in root.glob(pattern))
        return list(dict.fromkeys(found))

    def stranger(self, root: Path) -> str | None:
        """The name of a file in a folder without manifest that this kind of work would write over. What is hidden, an
        interrupted start has left."""
        return next((path.name for path in self.written(root) if not path.name.startswith(".")), None)

    def remove(self, root: Path) -> None:
        """Deletes what this kind of work writes, and nothing else; the manifest goes last."""
        for path in sorted(self.written(root), key=lambda path: path.name == self.manifest):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        if not any(root.iterdir()):
            root.rmdir()


def decide(
    root: Path,
    kind: Kind,
    former: Any,
    differences: Iterable[str],
    left: Callable[[], str | None],
    *,
    cont: bool = True,
    overwrite: bool = False,
) -> Opening:
    """What will be done with the folder, by the table above. Changes nothing; raises RunError for what is refused.

    `former` is the manifest, None where there is none; `differences` says what of it is otherwise now, and `left()`
    what is not done yet ("1 of 2 prompts done"), None when all is.
    """
    if former is None:
        if stranger := kind.stranger(root):
            raise RunError(
                f"{root}: holds {stranger} but no {kind.manifest}, so it is no {kind.name} of this project; "
                f"{kind.elsewhere}"
            )
        return "start"
    if overwrite:
        return "replace"
    if lines := list(differences):
        raise RunError(
            f"{root}: made by another {kind.name} ({'; '.join(lines[:3])}); {kind.elsewhere}, "
            f"or {kind.insist} to replace it"
        )
    unfinished = left()
    if unfinished is None:
        return "done"
    if not cont:
        raise RunError(
            f"{root}: holds this {kind.name}, unfinished ({unfinished}); go on with cont: true, "
            f"or {kind.insist} to start over"
        )
    return "continue"


@contextmanager
def locked(root: Path, kind: str = "run") -> Iterator[None]:
    """Keeps other commands out of a folder or file; an owner that died keeps nobody out. Raises BusyError where
    another is in it, RunError where nothing can be written."""
    from filelock import FileLock, Timeout

    file = root.with_name(f".{root.name}.lock")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file)
        lock.acquire(timeout=0)
    except Timeout:
        raise BusyError(f"{root}: another {kind} is being written there; wait for it, or choose another name") from None
    except OSError as error:
        raise RunError(f"{root}: cannot be written ({error.strerror}); check output_path") from None
    try:
        yield
    finally:
        lock.release()


def move_aside(root: Path) -> None:
    """Renames a folder that will be replaced, and notes its new name in a new one."""
    aside = _free_name(root)
    os.rename(root, aside)
    write_bytes(root / REPLACES, aside.name.encode())


def drop_drafts(root: Path, *names: str) -> None:
    """Removes what an interruption left of the writing of files of these names, and of the note of `move_aside`."""
    for name in (REPLACES, *names):
        (root / f".{name}.tmp").unlink(missing_ok=True)


def remove_replaced(root: Path, kind: Kind) -> None:
    """Deletes the work that a finished one has replaced, and nothing in its folder that such work does not write."""
    note = root / REPLACES
    if not note.is_file():
        return
    aside = root.with_name(Path(note.read_text(encoding="utf-8")).name)
    if aside.is_dir():
        remove_replaced(aside, kind)
        kind.remove(aside)
    note.unlink()


def changed(old: Mapping[str, Any], new: Mapping[str, Any], ignore: Sequence[str] = ()) -> list[str]:
    """What differs between two manifests `{"config": {key: value}, "reads": {name: hash}}`, as `key: old, now new`; a
    manifest of an earlier version may have no hashes."""
    before, after = old.get("config", {}), new["config"]
    keys = [key for key in after if key not in ignore and before.get(key) != after[key]]
    now = new.get("reads", {})
    was = old.get("reads", now)
    return [f"{key}: {before.get(key)!r}, now {after[key]!r}" for key in keys] + [
        f"{name} has other content than before" for name in {**now, **was} if was.get(name) != now.get(name)
    ]


def _free_name(root: Path) -> Path:
    """`<name>.old-<time>`, of local time; numbered where that is taken."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    names = (f"{root.name}.old-{stamp}{suffix}" for suffix in ("", *(f"-{n}" for n in range(1, 100))))
    return next(place for name in names if not (place := root.with_name(name)).exists())
