"""The state on disk that a training run resumes from, written whole or not at all, by the main process."""

from __future__ import annotations

import importlib.util
import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, ProjectConfiguration

from vhs.errors import ConfigError, RunError
from vhs.files import read_json, write_bytes, write_json
from vhs.training.config import TrainConfig

FREE = frozenset({"name", "output_path", "cont", "tracker", "micro_batch", "gradient_checkpointing", "timeout"})
"""Keys that may differ between a training run and its continuation: they change where and how fast it runs."""


@dataclass
class Record:
    """`step` steps are done; the checkpoint is that of `best_step`, chosen by the figures `best`."""

    step: int = 0
    best_step: int = -1
    best: dict[str, float] = field(default_factory=dict)


def build_accelerator(config: TrainConfig) -> Accelerator:
    """Raises ConfigError when the tracker is not installed."""
    if config.tracker != "none" and importlib.util.find_spec(config.tracker) is None:
        raise ConfigError(f"tracker: {config.tracker} is not installed; pip install {config.tracker}, or tracker: none")
    precision = {"float32": "no", "bfloat16": "bf16"}[config.precision]
    accelerator = Accelerator(
        mixed_precision=precision,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(minutes=config.timeout))],
        log_with=None if config.tracker == "none" else config.tracker,
        project_config=ProjectConfiguration(project_dir=str(config.folder), logging_dir=str(config.folder)),
    )
    if accelerator.is_fsdp2 and config.precision == "bfloat16":
        from torch.distributed.fsdp import MixedPrecisionPolicy

        # accelerate's own would add gradients of different processes in bfloat16 as well
        policy = MixedPrecisionPolicy(torch.bfloat16, reduce_dtype=torch.float32, output_dtype=torch.float32)
        accelerator.state.fsdp_plugin.mixed_precision_policy = policy
    if config.tracker != "none":
        accelerator.init_trackers(
            "curves", config={k: v for k, v in config.model_dump().items() if isinstance(v, (int, float, str, bool))}
        )
    return accelerator


def begin(accelerator: Accelerator, model: torch.nn.Module, optimizer: Any, config: TrainConfig) -> Record:
    """The record to resume from, with model and optimiser restored, or a fresh one.

    Raises RunError when the state is that of another training run, naming the key.
    """
    folder = config.folder
    if not config.cont:
        if accelerator.is_main_process:
            for name in ("state", "state.partial", "checkpoint"):
                shutil.rmtree(folder / name, ignore_errors=True)
            for name in ("log.jsonl", "train.json"):
                (folder / name).unlink(missing_ok=True)
        accelerator.wait_for_everyone()
        return Record()
    saved = _read(folder)
    if saved is None:
        return Record()
    _check_same(saved["config"], config, folder)
    accelerator.load_state(str(folder / "state"))
    record = Record(**saved["record"])
    if accelerator.is_main_process:
        _cut_log(folder / "log.jsonl", record.step)
    accelerator.wait_for_everyone()
    return record


def save_state(accelerator: Accelerator, config: TrainConfig, record: Record) -> None:
    """Replaces the saved state by the present one."""
    folder = config.folder
    partial = folder / "state.partial"
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    accelerator.wait_for_everyone()
    with _without_warnings("accelerate.utils.other"):  # about a tied head, which is stored once
        accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        content = {"record": asdict(record), "config": config.model_dump(mode="json")}
        (partial / "record.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        # a folder cannot be replaced in one step; `_read` finishes what is stopped between the two renames
        old = folder / "state.old"
        shutil.rmtree(old, ignore_errors=True)
        if (folder / "state").exists():
            (folder / "state").rename(old)
        partial.rename(folder / "state")
        shutil.rmtree(old, ignore_errors=True)
    accelerator.wait_for_everyone()


@contextmanager
def _without_warnings(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def saved_step(folder: Path) -> int | None:
    """The step of the saved state, if there is one."""
    saved = _read(folder)
    return None if saved is None else saved["record"]["step"]


def _read(folder: Path) -> dict | None:
    if not (folder / "state").exists() and (folder / "state.old").exists():
        (folder / "state.old").rename(folder / "state")  # stopped between the two renames of `save_state`
    path = folder / "state" / "record.json"
    return read_json(path) if path.exists() else None


def _check_same(before: dict, config: TrainConfig, folder: Path) -> None:
    now = config.model_dump(mode="json")
    for key in now:
        if key not in FREE and before.get(key) != now[key]:
            raise RunError(
                f"{folder}: its state was made with {key}: {before.get(key)!r}, now {now[key]!r}; "
                "use cont: false or another name"
            )


def log(accelerator: Accelerator, config: TrainConfig, figures: dict[str, Any]) -> None:
    """One line to log.jsonl, and to the tracker."""
    if accelerator.is_main_process:
        config.folder.mkdir(parents=True, exist_ok=True)
        with open(config.folder / "log.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(figures) + "\n")
    if config.tracker != "none":
        accelerator.log({k: v for k, v in figures.items() if k != "step"}, step=figures["step"])


def _cut_log(path: Path, step: int) -> None:
    """Drops the lines after `step`: they will be written again."""
    if path.exists():
        lines = [
            line
            for line in path.read_text(encoding="utf-8").splitlines(keepends=True)
            if json.loads(line)["step"] <= step
        ]
        write_bytes(path, "".join(lines).encode())


def finish(accelerator: Accelerator, config: TrainConfig, record: Record, seconds: float) -> None:
    """Writes train.json and closes the trackers."""
    if accelerator.is_main_process:
        import transformers

        content = {
            "config": config.model_dump(mode="json"),
            **asdict(record),
            "processes": accelerator.num_processes,
            "seconds": round(seconds, 1),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }
        write_json(config.folder / "train.json", content)
    if config.tracker != "none":
        accelerator.end_training()
