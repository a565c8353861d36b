"""A run's folder as a report reads it: finished or interrupted, wherever it lies now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vhs.errors import RunError
from vhs.files import read_form
from vhs.records import Prompt
from vhs.runs.folder import read_row, winner_of
from vhs.runs.forms import Answered, Manifest, Objects, PromptRecord, Stages, Timings
from vhs.runs.tables import Run

Boxes = Mapping[int, Sequence[Mapping[str, Any]]]
"""Candidate -> the objects that GenEval counted in its picture: {label, score, box (x0, y0, x1, y1, pixels), color}."""


@dataclass(frozen=True)
class RunData:
    """What a folder holds. `table` has the complete prompts; `expected` is how many the run was started with."""

    root: Path
    manifest: Mapping[str, Any]
    table: Run
    expected: int
    boxes: Mapping[int, Boxes]
    timings: Mapping[str, Mapping[str, Mapping[str, float]]]

    @property
    def config(self) -> Mapping[str, Any]:
        """The resolved configuration."""
        return self.manifest["config"]

    @property
    def name(self) -> str:
        """The run's own name, whatever its folder is called now."""
        return self.config["name"]

    @property
    def partial(self) -> bool:
        """The run was interrupted, or is still going on."""
        return len(self.table.prompts) < self.expected

    def picture(self, prompt_id: int, candidate: int) -> Path:
        """A candidate's file, whether it exists or not."""
        return self.root / _picture(self.config, prompt_id, candidate)


def run_folders(root: str | Path) -> list[Path]:
    """The folders of the runs that `root` stands for: itself, or one per seed where `root` holds those."""
    root = Path(root)
    seeds = sorted(file.parent for file in root.glob(f"{root.name}_seed_*/run.json"))
    return seeds if seeds and not (root / "run.json").is_file() else [root]


def read_run(root: str | Path) -> RunData:
    """Raises RunError, naming the folder or file, for what is no run and for a run without a complete prompt."""
    root = Path(root)
    if not root.is_dir():
        raise RunError(f"{root}: no such folder; give the folder of a run, such as outputs/tiny")
    if not (root / "run.json").is_file():
        if run_folders(root) != [root]:
            raise RunError(f"{root}: holds one run per seed; give one of them, such as {run_folders(root)[0]}")
        raise RunError(f"{root}: no run.json in it, so it is no run of this project; give the folder of a run")
    manifest = read_form(root / "run.json", Manifest, remedy="a folder of a run that `run` wrote is needed")
    config, expected = manifest["config"], manifest["prompts"]["count"]
    mode, count = config["generation_mode"], config["num_samples"]
    folders = _complete(root / f"gen_eval_{config['name']}")
    if not folders:
        raise RunError(f"{root}: no prompt of this run is complete; go on with cont=true")
    prompts = [_prompt(folder) for folder in folders]
    rows = {int(folder.name): _rows(folder, count, config.get("stop_when") is not None) for folder in folders}
    winners = {int(folder.name): _winner(folder, len(rows[int(folder.name)])) for folder in folders}
    for folder, prompt in zip(folders, prompts, strict=True):
        if not prompt.judged and any("correct" in row for row in rows[prompt.id]):
            raise RunError(f"{folder / 'metadata.jsonl'}: has no tag of GenEval's, but the pictures have verdicts")
    boxes = {int(folder.name): _boxes(folder) for folder in folders}
    return RunData(root, manifest, Run(mode, count, prompts, rows, winners), expected, boxes, _timings(root))


def _picture(config: Mapping[str, Any], prompt_id: int, candidate: int) -> Path:
    return Path(f"gen_eval_{config['name']}", f"{prompt_id:05d}", "samples", f"img_{candidate:05d}.{config['fmt']}")


def _complete(pictures: Path) -> list[Path]:
    """A prompt's folder appears when it is whole; drafts have hidden names."""
    return sorted(folder for folder in pictures.glob("[0-9]*") if folder.is_dir() and folder.name.isdigit())


def _prompt(folder: Path) -> Prompt:
    record = read_form(folder / "metadata.jsonl", PromptRecord)
    return Prompt(int(folder.name), record["prompt"].strip(), record if "include" in record else None)


def _rows(folder: Path, count: int, adaptive: bool) -> list[dict[str, Any]]:
    """A row per candidate; with `stop_when` a prompt may have ended before its last."""
    files = [folder / "samples" / f"{index:05d}_metadata.json" for index in range(count)]
    return [read_row(file, Answered) for file in files if not adaptive or file.is_file()]


def _winner(folder: Path, count: int) -> int:
    found = sorted((folder / "samples").glob("best_*"))
    if not found:
        raise RunError(f"{folder}: no samples/best_*; the folder was changed: run again with cont: false")
    return winner_of(found[0], count)


def _boxes(folder: Path) -> Boxes:
    file = folder / "objects.json"
    return {int(index): objects for index, objects in read_form(file, Objects).items()} if file.is_file() else {}


def _timings(root: Path) -> dict[str, Any]:
    """Seconds by prompt and stage; those of an interrupted run lie in a draft of each process."""
    file, merged = root / "timings.json", {}
    if file.is_file():
        merged |= read_form(file, Timings)["prompts"]
    for draft in sorted(root.glob(".timings_*.json")):
        merged |= read_form(draft, Stages)
    return merged
