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
from accelerate import Accelerator, PartialState
from accelerate.utils import ProjectConfiguration

from vhs.checkpoints.boundary import loading
from vhs.errors import ConfigError
from vhs.files import write_bytes, write_json, writing
from vhs.processes import several
from vhs.training.config import TrainConfig
from vhs.training.folder import close_training, decide_training, open_training, read_state, replace_state


@dataclass
class Record:
    """`step` steps are done; the checkpoint is that of `best_step`, chosen by the figures `best`."""

    step: int = 0
    best_step: int = -1
    best: dict[str, float] = field(default_factory=dict)


def exchange_tensors(timeout: float) -> None:
    """Connects the processes: GPUs by NCCL, CPUs by gloo. An exchange that takes more than `timeout` minutes fails."""
    PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(minutes=timeout))


def build_accelerator(config: TrainConfig) -> Accelerator:
    """Raises ConfigError when the tracker is not installed."""
    if config.tracker != "none" and importlib.util.find_spec(config.tracker) is None:
        raise ConfigError(f"tracker: {config.tracker} is not installed; pip install {config.tracker}, or tracker: none")
    precision = config.arithmetic
    if several():
        exchange_tensors(config.timeout)
    accelerator = Accelerator(
        mixed_precision={"float32": "no", "bfloat16": "bf16"}[precision],
        log_with=None if config.tracker == "none" else config.tracker,
        project_config=ProjectConfiguration(project_dir=str(config.folder), logging_dir=str(config.folder)),
    )
    if accelerator.is_fsdp2 and precision == "bfloat16":
        from torch.distributed.fsdp import MixedPrecisionPolicy

        # accelerate's own would add gradients of different processes in bfloat16 as well
        policy = MixedPrecisionPolicy(torch.bfloat16, reduce_dtype=torch.float32, output_dtype=torch.float32)
        accelerator.state.fsdp_plugin.mixed_precision_policy = policy
    return accelerator


def begin(accelerator: Accelerator, config: TrainConfig, now: dict[str, Any]) -> Record:
    """Opens the folder and returns the record to go on from, or a fresh one; what the accelerator prepared is restored.

    `now` is what train.json will say. Raises RunError for a folder that this training may not go into.
    """
    folder = config.folder
    opening = decide_training(config, now)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        open_training(opening, folder, now)
    accelerator.wait_for_everyone()
    if config.tracker != "none":
        kept = {key: value for key, value in config.model_dump().items() if isinstance(value, (int, float, str, bool))}
        accelerator.init_trackers("curves", config=kept)
    saved = read_state(folder)
    record = Record() if saved is None else Record(**saved["record"])
    if saved is not None:
        with loading("saved state", folder / "state", "remove it to start over"):
            accelerator.load_state(str(folder / "state"))
    if accelerator.is_main_process:
        _cut_log(folder / "log.jsonl", record.step)
    accelerator.wait_for_everyone()
    return record


def save_state(accelerator: Accelerator, config: TrainConfig, record: Record) -> None:
    """Replaces the saved state by the present one."""
    folder = config.folder
    partial = folder / "state.partial"
    with writing(partial):
        if accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        accelerator.wait_for_everyone()
        with _without_warnings("accelerate.utils.other"):  # about a tied head, which is stored once
            accelerator.save_state(str(partial))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            content = {"record": asdict(record), "config": config.model_dump(mode="json")}
            write_json(partial / "record.json", content)
            replace_state(folder)
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
        with loading("log of a training", path, "remove it"):
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            lines = [line for line in lines if json.loads(line)["step"] <= step]
        write_bytes(path, "".join(lines).encode())


def finish(accelerator: Accelerator, config: TrainConfig, now: dict[str, Any], record: Record, seconds: float) -> None:
    """Writes train.json, closes the trackers, and deletes the training that this one has replaced."""
    if config.tracker != "none":
        accelerator.end_training()
    if not accelerator.is_main_process:
        return
    import transformers

    content = {
        **now,
        **asdict(record),
        "processes": accelerator.num_processes,
        "seconds": seconds,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    write_json(config.folder / "train.json", content)
    close_training(config.folder)
