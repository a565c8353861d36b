"""A whole training as one file: stages in their order, each a configuration of the single commands.

What is there already is not made again, so the same command goes on after an interruption; stages that go on by
themselves (collecting, labelling, training) do so. `record` keeps what each stage was made with and how fast.
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
from typing import Any

from pydantic import Field, model_validator

import vhs
from vhs.config.run import Keys
from vhs.config.yamlfile import build, combination_error, nearest, read_values
from vhs.errors import ConfigError, RunError
from vhs.files import read_json_object, write_json
from vhs.paths import find
from vhs.processes import Process, current_process
from vhs.training.counts import items
from vhs.training.stages import Stage, Step, alone, load_stage, run_stage

Say = Callable[[str], None]


class PipelineConfig(Keys):
    """pipeline.py: a verifier from data files to its figures."""

    record: str = Field(min_length=1)
    """JSON file of what each stage was made with, how long it took and what it said."""
    stages: list[Stage] = Field(min_length=1)
    """In the order in which they run."""

    @model_validator(mode="after")
    def _named_once(self) -> PipelineConfig:
        names = [stage.name for stage in self.stages]
        for name in names:
            if names.count(name) > 1:
                raise combination_error("stages", f"{name} is the name of two stages; give each its own")
        return self


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
    return Step(stage, load_stage(stage.command, beside if beside.is_file() else stage.config, keys))


# ------------------------------------------------------------------------------------------------------------ running


def run_pipeline(config: PipelineConfig, steps: Sequence[Step], say: Say) -> Done:
    """Runs the stages that are not done, in their order, on all processes of the launcher.

    Raises ConfigError for a stage that is done with other keys than it has now, before anything runs; and what the
    stages raise.
    """
    process, record = current_process(), read_record(config)
    for step in steps:
        _check_same(step, record.get(step.stage.name), config)
    ran = 0
    for number, step in enumerate(steps, start=1):
        where = f"{number}/{len(steps)} {step.stage.name}"
        left = step.left
        process.wait()  # nobody may still look at what another process begins to write
        if left is None:
            if process.first:
                say(f"{where}: done")
            continue
        if process.first:
            say(f"{where}: {step.stage.command}, to make: {left}")
        _run(steps, number - 1, config, process, say, fresh=left == "all")
        ran += 1
    return Done(ran, len(steps) - ran, Path(config.record))


def _run(steps: Sequence[Step], which: int, config: PipelineConfig, process: Process, say: Say, fresh: bool) -> None:
    """One stage; where a single process does it the others wait. A `fresh` one tells how fast it is."""
    step, started, done = steps[which], time.perf_counter(), None
    if process.first or not (step.config is None or alone(step.config)):
        done = _module(step.stage) if step.config is None else run_stage(step.config, say)
    process.wait()
    if process.first:
        line = done.line() if done is not None else ""
        say(f"{step.stage.name}: {line}")
        seconds = round(time.perf_counter() - started, 3)
        entry: dict[str, Any] = {"made_with": step.made_with(), "line": line, "seconds": seconds}
        count = items(steps)[which]
        if fresh and count is not None:
            processes = 1 if step.config is None or alone(step.config) else process.count
            entry |= {"items": count, "processes": processes, "rate": count / seconds / processes}
        write_json(Path(config.record), read_record(config) | {step.stage.name: entry})
        if step.left is not None:
            raise RunError(f"stage {step.stage.name}: ended, but {step.outputs[0]} is not whole; see its messages")
    process.wait()
    _forget()


@dataclass(frozen=True)
class _Ran:
    path: str

    def line(self) -> str:
        return self.path


def _module(stage: Stage) -> _Ran:
    command = [sys.executable, "-m", stage.module, *stage.arguments]
    # a script of a checkout finds the project by sys.path, which a child does not inherit
    found = os.pathsep.join(filter(None, [str(Path(vhs.__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(command, check=False, env={**os.environ, "PYTHONPATH": found})
    if done.returncode:
        raise RunError(f"stage {stage.name}: {' '.join(command[1:])} ended with {done.returncode}")
    return _Ran(stage.writes)


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
    return read_json_object(path, RunError, "remove it") if path.exists() else {}


def _check_same(step: Step, entry: dict[str, Any] | None, config: PipelineConfig) -> None:
    if entry is None or step.left is not None:
        return
    before, now = entry["made_with"], step.made_with()
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            raise ConfigError(
                f"stage {step.stage.name}: {step.outputs[0]} was made with {key}: {before.get(key)!r}, now "
                f"{now.get(key)!r}; undo the change, or move it and what was made from it away"
            )
