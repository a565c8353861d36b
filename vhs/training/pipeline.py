"""A whole training as one file: stages in their order, each a configuration of the single commands.

Each command knows whether it is done, goes on where it was stopped, and refuses what was made otherwise; so the same
pipeline goes on after an interruption. `record` keeps how fast each stage was, for `--plan`.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator
from typing_extensions import TypedDict

from vhs.config.keys import TimeoutKey
from vhs.config.yamlfile import build, combination_error, nearest, read_values
from vhs.errors import ConfigError, RunError
from vhs.files import read_form, write_json
from vhs.paths import find
from vhs.processes import Process, current_process
from vhs.training.counts import items
from vhs.training.stages import Stage, Step, alone, load_stage, run_stage

Say = Callable[[str], None]


class PipelineConfig(TimeoutKey):
    """pipeline.py: a verifier from data files to its figures."""

    record: str = Field(min_length=1)
    """JSON file of how many items a second each stage made."""
    stages: list[Stage] = Field(min_length=1)
    """In the order in which they run."""

    @model_validator(mode="after")
    def _named_once(self) -> PipelineConfig:
        names = [stage.name for stage in self.stages]
        for name in names:
            if names.count(name) > 1:
                raise combination_error("stages", f"{name} is the name of two stages; give each its own")
        return self


class Measured(TypedDict):
    """How fast a stage was: items a second of one process."""

    rate: Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Done:
    """How many stages were run, how many were done before, and where the record is."""

    ran: int
    before: int
    record: Path

    def line(self) -> str:
        return f"{self.ran} stages run, {self.before} were done: {self.record}"


def load_pipeline(path: str | Path, overrides: Iterable[str] = ()) -> tuple[PipelineConfig, list[Step]]:
    """The pipeline in a YAML file and its stages with their configurations, every one of which is checked.

    Overrides are `record=file`, or `<stage>.<key>=value` over a stage's configuration. Raises ConfigError.
    """
    own = [pair for pair in overrides if "." not in pair.partition("=")[0]]
    values, origins = read_values(path, own)
    config = build(PipelineConfig, values, origins, str(path))
    given = _by_stage([pair for pair in overrides if pair not in own], config)
    return config, [_step(stage, find(path).parent, given.get(stage.name, [])) for stage in config.stages]


def _by_stage(overrides: Sequence[str], config: PipelineConfig) -> dict[str, list[str]]:
    names, found = [stage.name for stage in config.stages], {}
    for pair in overrides:
        name, _, rest = pair.partition(".")
        if name not in names:
            raise ConfigError(
                f"command line: {pair!r}: no stage {name!r}{nearest(name, names)}; there are {', '.join(names)}"
            )
        found.setdefault(name, []).append(rest)
    return found


def _step(stage: Stage, folder: Path, overrides: list[str]) -> Step:
    if stage.command == "module":
        if overrides:
            raise ConfigError(f"command line: stage {stage.name} is a module, which has no keys: {overrides[0]!r}")
        return Step(stage, None)
    beside = folder / stage.config
    keys = [*stage.set, *overrides, *(["cont=true"] if stage.command == "train" else [])]
    step = Step(stage, load_stage(stage.command, beside if beside.is_file() else stage.config, keys))
    if getattr(step.config, "output", "") is None:
        raise ConfigError(f"stage {stage.name}: {stage.config} has no output; name the file to write")
    return step


# ------------------------------------------------------------------------------------------------------------ running


def run_pipeline(config: PipelineConfig, steps: Sequence[Step], say: Say) -> Done:
    """Runs the stages in their order on all processes of the launcher; what is done is left as it is.

    Raises what the stages raise, RunError for what was made under other keys or from other files among it.
    """
    process = current_process(config.timeout)
    ran = 0
    for number, step in enumerate(steps, start=1):
        left = process.agreed(step.left)
        if process.first:
            say(f"{number}/{len(steps)} {step.stage.name}: " + ("done" if left is None else f"to make: {left}"))
        _run(steps, number - 1, config, process, say, left)
        ran += left is not None
    return Done(ran, len(steps) - ran, Path(config.record))


def _run(
    steps: Sequence[Step], which: int, config: PipelineConfig, process: Process, say: Say, left: str | None
) -> None:
    """One stage; where a single process does it the others wait. One that is made whole here tells how fast it is."""
    step, started, done = steps[which], time.perf_counter(), None
    single = step.config is None or alone(step.config)
    if process.first or not single:
        if step.config is not None:
            done = run_stage(step.config, say)
        elif left is not None:
            _module(step.stage)
    process.wait()
    if process.first and left is not None:
        say(f"{step.stage.name}: {done.line() if done is not None else step.stage.writes}")
        count, seconds = items(steps)[which], time.perf_counter() - started
        if left == "all" and count is not None:
            each = 1 if single else process.count
            entry = {"items": count, "seconds": round(seconds, 3), "processes": each, "rate": count / seconds / each}
            write_json(Path(config.record), read_record(config) | {step.stage.name: entry})
        if step.left is not None:
            raise RunError(f"stage {step.stage.name}: ended, but {step.outputs[0]} is not whole; see its messages")
    process.wait()
    _forget()


def _module(stage: Stage) -> None:
    command = [sys.executable, "-m", stage.module, *stage.arguments]
    # a script of a checkout finds the project by its import path, which a child does not inherit
    found = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(command, check=False, env={**os.environ, "PYTHONPATH": found})
    if done.returncode:
        raise RunError(f"stage {stage.name}: {' '.join(command[1:])} ended with {done.returncode}")


def _forget() -> None:
    """A stage's models leave the memory, and its accelerator's precision is not the next one's."""
    import torch
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def read_record(config: PipelineConfig) -> dict[str, Any]:
    """What is known of the stages that were run, by name."""
    path = Path(config.record)
    return read_form(path, dict[str, Measured], remedy="remove it") if path.exists() else {}
