"""What becomes of the folder that a run is to be written to: the table of `vhs.folders`, and judging again.

A run that is judged again (`re_eval`) keeps its verdicts until all new ones are there: they are written into a folder
of their own, which takes the place of the old one in the end. So a process may be killed at any moment: what is there
is one run or the other, and the next command goes on.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import Any, Literal

from vhs.config.run import JudgeKeys, RunConfig
from vhs.errors import RunError
from vhs.files import write_bytes, write_json
from vhs.folders import decide as decide_folder
from vhs.folders import move_aside, remove_replaced
from vhs.resolve import ResolvedRun
from vhs.runs.folder import RunFolder, changed_keys

Opening = Literal["start", "continue", "done", "replace", "judge again"]

REJUDGED = ("dataset", "judge", "judge_model", "registry", *JudgeKeys.model_fields)
"""Keys that may differ when a run's pictures are judged again."""
COMPLETE = ".complete"


def decide(run: ResolvedRun, folder: RunFolder, manifest: Mapping[str, Any]) -> Opening:
    """What will be done with the folder, by the table of `vhs.folders`. Changes nothing; raises RunError for what is
    refused."""
    found = folder.manifest()
    former = None if found is None else RunConfig.completed(found)
    if run.rejudges:
        if former is None:
            raise RunError(f"{folder.root}: re_eval has no run to judge again; run it first, with re_eval: false")
        decide_folder(folder.root, folder.kind, former, changed_keys(former, manifest, REJUDGED), lambda: None)
        return "judge again"

    def left() -> str | None:
        done = sum(folder.done(prompt.id) for prompt in run.prompts)
        return None if done == len(run.prompts) else f"{done} of {len(run.prompts)} prompts done"

    differences = changed_keys(former, manifest) if former else []
    return decide_folder(
        folder.root, folder.kind, former, differences, left, cont=run.config.cont, overwrite=run.config.overwrite
    )


def open_folder(opening: Opening, folder: RunFolder, manifest: Mapping[str, Any]) -> None:
    """Makes the folder ready, run.json first. For one process, before the others write."""
    if opening == "replace":
        move_aside(folder.root)
    if opening in ("start", "replace"):
        write_json(folder.root / "run.json", manifest)
    folder.clean()


def close_folder(folder: RunFolder) -> None:
    """Deletes the run that a finished one has replaced, and nothing in its folder that a run does not write."""
    remove_replaced(folder.root, folder.kind)


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
