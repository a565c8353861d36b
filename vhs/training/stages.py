"""The stages of a pipeline: how each command's configuration is read, what it writes, how it is run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from vhs.config.keys import Keys, Number
from vhs.config.yamlfile import combination_error, load
from vhs.training.config import EvaluateConfig, TrainConfig
from vhs.training.data.layout import read_layout
from vhs.training.data.normalization import statistics_paths
from vhs.training.data.store import missing_shards
from vhs.training.data.tasks import (
    CaptionTask,
    ClipScoreTask,
    CollectConfig,
    MetadataTask,
    NormalizeConfig,
    PromptsTask,
    VerdictTask,
    load_label_config,
)
from vhs.training.folder import finished, manifest

StageConfig = Keys
Say = Callable[[str], None]

CONFIGS: dict[str, type[Keys]] = {
    "collect": CollectConfig,
    "normalize": NormalizeConfig,
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
}
ALONE = (PromptsTask, MetadataTask, ClipScoreTask, EvaluateConfig)
"""What a single process does."""


def load_stage(command: str, path: str | Path, overrides: Iterable[str]) -> StageConfig:
    """The configuration of a command. Raises ConfigError."""
    if command == "label":
        return load_label_config(path, overrides)
    return load(CONFIGS[command], path, overrides)


def alone(config: StageConfig) -> bool:
    """A single process does it."""
    return isinstance(config, ALONE)


def run_stage(config: StageConfig, say: Say) -> Any:
    """Runs the command; returns what it returns."""
    from vhs.training.commands import run_evaluate, run_train
    from vhs.training.data.commands import run_collect, run_normalize
    from vhs.training.data.label_commands import run_label

    runs: dict[type[Keys], Callable[[Any, Say], Any]] = {
        CollectConfig: run_collect,
        NormalizeConfig: run_normalize,
        TrainConfig: run_train,
        EvaluateConfig: run_evaluate,
    }
    return runs.get(type(config), run_label)(config, say)


def written(config: StageConfig) -> list[Path]:
    """The files that are there when a stage is done; of a collected set, its index."""
    if isinstance(config, CollectConfig):
        return [config.folder / "index.json"]
    if isinstance(config, NormalizeConfig):
        return list(statistics_paths(config.output, config.feature))
    if isinstance(config, (VerdictTask, CaptionTask)) and config.data:
        return [Path(folder) / config.output for folder in config.data]
    if isinstance(config, TrainConfig):
        return [config.folder / "train.json"]
    assert isinstance(config, (PromptsTask, CaptionTask, MetadataTask, ClipScoreTask, EvaluateConfig))
    return [Path(config.output)]


def missing(config: StageConfig) -> str | None:
    """What a stage has still to make, in a few words ("all" where nothing is there); None when it is done."""
    absent = [path for path in written(config) if not path.exists()]
    if absent:
        return "the rest" if len(absent) < len(written(config)) else "all"
    if isinstance(config, CollectConfig):
        return _missing_shards(config.folder)
    if isinstance(config, TrainConfig) and not finished(manifest(config.folder) or {}):
        return "the rest"
    return None


def _missing_shards(folder: Path) -> str | None:
    layout = read_layout(folder)
    left = len(missing_shards(folder, layout))
    return f"{left} of {layout.shards} shards" if left else None


class Stage(Keys):
    """One stage of a pipeline: a command with its configuration, or a Python module."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")
    """What overrides, the plan and messages call it."""
    command: Literal["collect", "normalize", "label", "train", "evaluate", "module"]
    """The single command that does it; `module`: `python -m <module> <arguments>`."""
    config: str | None = None
    """The command's YAML file, a path beside the pipeline's."""
    set: list[str] = []
    """`key=value` texts over that file."""
    items: int | None = Field(None, ge=1)
    """How many prompts it gives, for the plan, until its file is there."""
    rate: Number | None = Field(None, gt=0)
    """Items (prompts, samples, pictures) a second of one process, for the plan, until it was measured."""
    module: str | None = None
    """For `module`: its name."""
    arguments: list[str] = []
    """For `module`: its arguments."""
    writes: str | None = None
    """For `module`: the file that is there when it is done."""

    @model_validator(mode="after")
    def _whole(self) -> Stage:
        needed = ("module", "writes") if self.command == "module" else ("config",)
        for key in needed:
            if getattr(self, key) is None:
                raise combination_error(key, f"missing in stage {self.name}; command: {self.command} needs it")
        return self


@dataclass(frozen=True)
class Step:
    """A stage and its whole configuration; None for a module."""

    stage: Stage
    config: StageConfig | None

    @property
    def outputs(self) -> list[Path]:
        """The files or folders that are there when it is done."""
        return [Path(self.stage.writes)] if self.config is None else written(self.config)

    @property
    def left(self) -> str | None:
        """What is still to be made, in a few words; None when it is done."""
        if self.config is None:
            return None if self.outputs[0].exists() else "all"
        return missing(self.config)
