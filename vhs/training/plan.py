"""What a pipeline would cost, before anything is loaded: items, bytes on disk, GPU hours, downloads."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vhs.checkpoints.download import readable
from vhs.checkpoints.sizes import download_size
from vhs.checkpoints.source import Source, find_model
from vhs.config.run import load_config
from vhs.config.yamlfile import load
from vhs.paths import find
from vhs.training.config import Generated, TrainConfig
from vhs.training.counts import items
from vhs.training.data.tasks import (
    CaptionTask,
    ClipScoreTask,
    CollectConfig,
    MetadataTask,
    NormalizeConfig,
    PromptsTask,
    VerdictTask,
)
from vhs.training.stages import Step

MODEL_FILES = ("*.json", "*.safetensors", "*.txt", "*.jinja", "*.model")
UNKNOWN = "?"


@dataclass(frozen=True)
class Cost:
    """A stage's line. `items` is None where it is not known, `rate` (items a second of one process) too; `measured`
    says where the rate is from; without `gpu` it is work of the CPU and the disk."""

    name: str
    left: str
    items: int | None
    bytes: int | None
    rate: float | None
    measured: bool
    gpu: bool

    @property
    def hours(self) -> float | None:
        """Of one process, for what is still to be made."""
        if self.left == "done" or not self.gpu:
            return 0.0
        return None if None in (self.items, self.rate) else self.items / self.rate / 3600


def costs(steps: Sequence[Step], record: Mapping[str, Any], rates: Mapping[str, Any] = {}) -> list[Cost]:
    """A line per stage. Rates are those that `rates`, another pipeline's record, or this one's `record` measured, else
    the stage's own. Raises what reading the files that are there raises."""
    found = []
    for step, count in zip(steps, items(steps), strict=True):
        measured = {**record, **rates}.get(step.stage.name, {}).get("rate")
        size = _bytes(step.config, count) if isinstance(step.config, CollectConfig) else None
        gpu = _needs_gpu(step.config)
        rate = step.stage.rate if measured is None else measured
        found.append(Cost(step.stage.name, step.left or "done", count, size, rate, measured is not None, gpu))
    return found


def _needs_gpu(config: Any) -> bool:
    """Prompt files, modules and statistics of stored features are work of the CPU and the disk."""
    if config is None or isinstance(config, PromptsTask):
        return False
    return not isinstance(config, NormalizeConfig) or any(isinstance(one, Generated) for one in config.data)


def _bytes(config: CollectConfig, items: int | None) -> int | None:
    """Of a whole set on disk; None while the generator's sizes are not known."""
    from vhs.generators import resolve_generator
    from vhs.training.data.collect import bytes_per_sample, plan

    info = resolve_generator(load_config(config.run, config.run_overrides), "cpu", "float32", offline=True).info
    if info is None or items is None or config.clip:
        return None
    return items * bytes_per_sample(plan(info, 1, config, {}), info.image_size)


# ---------------------------------------------------------------------------------------------------------- downloads


def downloads(steps: Iterable[Step]) -> list[Source]:
    """What the stages that are not done read from the Hub and what is not here, each once."""
    sources = [source for step in steps if step.config is not None and step.left for source in _sources(step.config)]
    return list({(source.repository, source.name): source for source in sources if source.path is None}.values())


def _sources(config: Any) -> list[Source]:
    beside = [one for one in getattr(config, "data", []) if isinstance(one, Generated)]
    made = [_sources(load(CollectConfig, one.generate, one.overrides)) for one in beside]
    return [*_own_sources(config), *(source for sources in made for source in sources)]


def _own_sources(config: Any) -> list[Source]:
    from vhs.generators import resolve_generator
    from vhs.geneval.spec import judge_config, resolve_judge

    if isinstance(config, CollectConfig):
        run = load_config(config.run, config.run_overrides)
        tower = [_model("clip", config.clip)] if config.clip else []
        return [*resolve_generator(run, "cpu", "float32", offline=True).sources, *tower]
    judge = config.judge if isinstance(config, (VerdictTask, CaptionTask)) else None
    if judge is not None:
        return list(resolve_judge(judge_config(Path(), judge), "cpu").downloads)
    if isinstance(config, (CaptionTask, ClipScoreTask)) or (
        isinstance(config, MetadataTask) and config.backend == "model"
    ):
        return [_model("model", config.model)]
    if isinstance(config, TrainConfig) and Path(config.init).name != "checkpoint":
        return [_model("init", config.init)]
    return []


def _model(key: str, name: str) -> Source:
    return find_model(key, name, MODEL_FILES)


def own_files(steps: Iterable[Step]) -> list[str]:
    """Data files that the user brings and that are not there."""
    named = []
    for step in steps:
        if isinstance(step.config, PromptsTask):
            named.append(step.config.source)
        if isinstance(step.config, ClipScoreTask) and step.config.pairs is not None:
            named += [step.config.pairs, step.config.pairs_pictures]
    return list(dict.fromkeys(name for name in named if not find(name).exists()))


# --------------------------------------------------------------------------------------------------------------- text


def describe(steps: Sequence[Step], record: Mapping[str, Any], rates: Mapping[str, Any] = {}) -> str:
    """The text of `--plan`. No model is loaded and the Hub is not asked."""
    rows = costs(steps, record, rates)
    head = f"{'stage':22} {'to make':>16} {'items':>12} {'on disk':>10} {'items/s':>9}         {'GPU hours':>9}"
    lines = [head, *map(_line, rows)]
    hours = [row.hours for row in rows]
    known = sum(hour for hour in hours if hour is not None)
    without = [row.name for row, hour in zip(rows, hours, strict=True) if hour is None]
    lines.append(f"GPU hours of the stages with a rate: {known:.1f}")
    if without:
        lines.append(f"no rate, or not known how many: {', '.join(without)}")
    size = sum(row.bytes or 0 for row in rows)
    free = shutil.disk_usage(Path.cwd()).free
    lines.append(f"collected sets: {readable(size)}; {readable(free)} free here")
    return "\n".join([*lines, *_download_lines(steps)])


def _line(row: Cost) -> str:
    items = UNKNOWN if row.items is None else f"{row.items:,}"
    size = "" if row.bytes is None else readable(row.bytes)
    rate = "" if row.rate is None else f"{row.rate:.3g}"
    source = "" if row.rate is None else "measured" if row.measured else "stated"
    hours = UNKNOWN if row.hours is None else f"{row.hours:.1f}" if row.gpu else "no GPU"
    return f"{row.name:22} {row.left:>16} {items:>12} {size:>10} {rate:>9} {source:8} {hours:>8}"


def _download_lines(steps: Sequence[Step]) -> list[str]:
    lines = []
    for source in downloads(steps):
        size = download_size(source)
        known = f"{readable(size.bytes)} ({size.basis})" if size else "size not known here"
        lines.append(f"download: {source.name}: {known}")
    return lines + [f"bring: {name}" for name in own_files(steps)]
