"""The folder of a training: what becomes of one that is there (the table of `vhs.folders`), and what train.json says.

train.json is written when a training starts (its configuration, and what it reads by content) and again when it is
finished, with how it ended.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from vhs.checkpoints.hashes import content_hash
from vhs.checkpoints.source import find_model
from vhs.files import read_form, write_json
from vhs.folders import Kind, Opening, changed, decide, drop_drafts, move_aside, remove_replaced
from vhs.training.config import TrainConfig
from vhs.training.data.generated import open_source
from vhs.training.made import sets_hashes, statistics_hashes
from vhs.training.model import MODEL_FILES

FREE = (
    "name", "output_path", "cont", "overwrite", "tracker", "micro_batch", "gradient_checkpointing", "log_every",
    "timeout",
)  # fmt: skip
"""Keys that may differ between a training and its continuation: they change where and how fast it runs."""
TRAINING = Kind(
    "training",
    "train.json",
    (
        "checkpoint",
        "checkpoint.partial",
        "state",
        "state.old",
        "state.partial",
        "log.jsonl",
        "left_out.jsonl",
        "curves",
        ".log.jsonl.tmp",
        ".left_out.jsonl.tmp",
    ),
    "give this one another name",
)


Step = Annotated[int, Field(ge=-1, lt=2**31)]


class Reached(TypedDict):
    """How far a training has come; the checkpoint is that of `best_step`, chosen by the figures `best`."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    step: Step
    best_step: NotRequired[Step]
    best: NotRequired[dict[str, float]]


class State(TypedDict):
    """record.json of a saved state."""

    record: Reached


class Manifest(TypedDict):
    """train.json; `seconds` is there when the training is finished."""

    config: dict[str, Any]
    reads: NotRequired[dict[str, str]]
    seconds: NotRequired[float]


class Finished(Manifest):
    """train.json of a finished training."""

    step: Step
    best_step: Step
    best: dict[str, float]


def describe(config: TrainConfig) -> dict[str, Any]:
    """What train.json says from the start: the configuration, and hashes of what the training reads."""
    sets = [open_source(named) for named in (*config.data, *config.eval_data)]
    files = {"labels": config.labels, "more_labels": config.more_labels}
    files = files if config.stage == "finetune" else {"captions": config.captions}
    return {
        "config": {**config.model_dump(mode="json"), "precision": config.arithmetic},
        "reads": {
            "init": content_hash(find_model("init", config.init, MODEL_FILES).require()),
            **statistics_hashes(config, config.feature),
            **sets_hashes(sets, {key: file for key, file in files.items() if file}),
        },
    }


def manifest(folder: Path) -> dict[str, Any] | None:
    """train.json, or None before the first training."""
    file = folder / TRAINING.manifest
    return read_form(file, Manifest, remedy="remove the folder, or give another name") if file.exists() else None


def finished(former: dict[str, Any]) -> bool:
    """A manifest is that of a finished training."""
    return "seconds" in former


def decide_training(config: TrainConfig, now: dict[str, Any]) -> Opening:
    """What becomes of the folder, by the table of `vhs.folders`. Raises RunError for what is refused."""
    former = manifest(config.folder)

    def left() -> str | None:
        if finished(former):
            return None
        step = saved_step(config.folder)
        return "nothing saved" if step is None else f"saved at step {step}"

    differences = changed(TrainConfig.completed(former), now, FREE) if former else ()
    return decide(config.folder, TRAINING, former, differences, left, cont=config.cont, overwrite=config.overwrite)


def open_training(opening: Opening, folder: Path, now: dict[str, Any]) -> None:
    """Makes the folder ready, train.json first. For one process, before the others write."""
    if opening == "replace":
        move_aside(folder)
    if opening in ("start", "replace"):
        write_json(folder / TRAINING.manifest, now)
    recover(folder)


def close_training(folder: Path) -> None:
    """Deletes the training that a finished one has replaced."""
    remove_replaced(folder, TRAINING)


def replace_state(folder: Path) -> None:
    """Puts `state.partial`, which is whole, in the place of `state`; `recover` ends what is stopped in between."""
    shutil.rmtree(folder / "state.old", ignore_errors=True)
    if (folder / "state").exists():
        os.rename(folder / "state", folder / "state.old")
    os.rename(folder / "state.partial", folder / "state")
    shutil.rmtree(folder / "state.old", ignore_errors=True)


def recover(folder: Path) -> None:
    """Ends what an interruption left half done in a training's folder: one whole state, and nothing partial. For one
    process."""
    if not (folder / TRAINING.manifest).exists():
        return
    if not (folder / "state").exists() and (folder / "state.old").exists():
        os.rename(folder / "state.old", folder / "state")
    for name in ("state.old", "state.partial", "checkpoint.partial"):
        shutil.rmtree(folder / name, ignore_errors=True)
    drop_drafts(folder, "train.json", "log.jsonl", "left_out.jsonl")


def read_state(folder: Path) -> dict[str, Any] | None:
    """What the saved state says of itself: `record` and `config`; None without one."""
    file = folder / "state" / "record.json"
    return read_form(file, State, remedy="remove the folder state to start over") if file.exists() else None


def saved_step(folder: Path) -> int | None:
    """The step of the saved state, if there is one."""
    saved = read_state(folder)
    return None if saved is None else saved["record"]["step"]
