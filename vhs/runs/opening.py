"""What becomes of the folder that a run is to be written to: nothing finished is deleted without being asked for.

    there is                        cont: false        cont: true     overwrite: true
    nothing                         start              start          start
    this run, all prompts done      already done       already done   replace
    this run, unfinished            refused            continue       replace
    another run                     refused            refused        replace
    files that are no run's         refused            refused        refused

A run that is replaced is moved aside first, to `<name>.old-<time>`, and deleted when the new one is finished. A run
that is judged again (`re_eval`) keeps its verdicts until all new ones are there: they are written into a folder of
their own, which takes the place of the old one in the end. So a process may be killed at any moment: what is there is
one run or the other, and the next command goes on.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from vhs.config.run import JudgeKeys
from vhs.errors import RunError
from vhs.files import write_bytes, write_json
from vhs.resolve import ResolvedRun
from vhs.runs.folder import RunFolder, changed_keys

Opening = Literal["start", "continue", "done", "replace", "judge again"]

REJUDGED = ("dataset", "judge", "judge_model", "registry", *JudgeKeys.model_fields)
"""Keys that may differ when a run's pictures are judged again."""
REPLACES, COMPLETE = ".replaces", ".complete"


@contextmanager
def locked(folder: RunFolder) -> Iterator[None]:
    """Keeps other runs out of the folder; an owner that died keeps nobody out. Raises RunError where another is in
    it."""
    from filelock import FileLock, Timeout

    file = folder.root.with_name(f".{folder.root.name}.lock")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file)
        lock.acquire(timeout=0)
    except Timeout:
        raise RunError(
            f"{folder.root}: another run is being written there; wait for it, or choose another name"
        ) from None
    except OSError as error:
        raise RunError(f"{folder.root}: cannot be written ({error.strerror}); check output_path") from None
    try:
        yield
    finally:
        lock.release()


def decide(run: ResolvedRun, folder: RunFolder, manifest: Mapping[str, Any]) -> Opening:
    """What will be done with the folder, by the table above. Changes nothing; raises RunError for what is refused."""
    former = folder.manifest()
    if former is None:
        if run.rejudges:
            raise RunError(f"{folder.root}: re_eval has no run to judge again; run it first, with re_eval: false")
        visible = [path.name for path in folder.written() if not path.name.startswith(".")]
        if visible:  # what is hidden, an interrupted start has left
            raise RunError(
                f"{folder.root}: holds {visible[0]} but no run.json, so it is no run of this project; "
                "choose another name"
            )
        return "start"
    differences = changed_keys(former, manifest, REJUDGED if run.rejudges else ())
    if run.config.overwrite and not run.rejudges:
        return "replace"
    if differences:
        raise RunError(
            f"{folder.root}: made by another run ({'; '.join(differences[:3])}); give this one another name, "
            "or overwrite: true to replace it"
        )
    if run.rejudges:
        return "judge again"
    done = sum(folder.done(prompt.id) for prompt in run.prompts)
    if done == len(run.prompts):
        return "done"
    if not run.config.cont:
        raise RunError(
            f"{folder.root}: holds this run, unfinished ({done} of {len(run.prompts)} prompts done); go on with "
            "cont: true, or overwrite: true to start over"
        )
    return "continue"


def open_folder(opening: Opening, folder: RunFolder, manifest: Mapping[str, Any]) -> None:
    """Makes the folder ready, run.json first. For one process, before the others write."""
    if opening == "replace":
        aside = _free_name(folder.root)
        os.rename(folder.root, aside)
        write_bytes(folder.root / REPLACES, aside.name.encode())
    if opening in ("start", "replace"):
        write_json(folder.root / "run.json", manifest)
    folder.clean()


def close_folder(folder: RunFolder) -> None:
    """Deletes the run that a finished one has replaced, and nothing in its folder that a run does not write."""
    note = folder.root / REPLACES
    if not note.is_file():
        return
    aside = RunFolder(folder.config, folder.root.with_name(note.read_text(encoding="utf-8")))
    if aside.root.is_dir():
        close_folder(aside)
        aside.remove()
    note.unlink()


def adopt(folder: RunFolder, manifest: Mapping[str, Any]) -> None:
    """Puts the verdicts of a run that was judged again in the place of the old ones."""
    draft = folder.draft.pictures
    write_json(draft / "run.json", manifest)
    write_bytes(draft / COMPLETE, b"")
    recover(folder)


def recover(folder: RunFolder) -> None:
    """Ends what an interruption left half done between two runs' files: verdicts that were all there take their place,
    others are dropped."""
    draft, pictures = folder.draft.pictures, folder.pictures
    former = folder.root / f".{pictures.name}.former"
    if draft.is_dir() and not (draft / COMPLETE).is_file():
        shutil.rmtree(draft)
    if draft.is_dir():
        if pictures.is_dir():
            os.rename(pictures, former)
        os.rename(draft, pictures)
    if (pictures / COMPLETE).is_file():
        if (pictures / "run.json").is_file():
            os.replace(pictures / "run.json", folder.root / "run.json")
        shutil.rmtree(former, ignore_errors=True)
        (pictures / COMPLETE).unlink()


def _free_name(root: Path) -> Path:
    """`<name>.old-<time>`, of local time; numbered where that is taken."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    names = (f"{root.name}.old-{stamp}{suffix}" for suffix in ("", *(f"-{n}" for n in range(1, 100))))
    return next(place for name in names if not (place := root.with_name(name)).exists())
