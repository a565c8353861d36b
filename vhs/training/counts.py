"""How many prompts, samples or pictures each stage of a pipeline goes through: from the files that are there, else from
what the stages before it will give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vhs.config.yamlfile import load
from vhs.paths import find
from vhs.prompts import read_prompts
from vhs.training.config import EvaluateConfig, Generated, TrainConfig
from vhs.training.data.layout import read_layout
from vhs.training.data.shards import place
from vhs.training.data.tasks import CaptionTask, CollectConfig, MetadataTask, NormalizeConfig, PromptsTask
from vhs.training.stages import Step

Counts = Mapping[str, int | None]


def items(steps: Sequence[Step]) -> list[int | None]:
    """The items of each stage, None where nothing tells."""
    counts: dict[str, int | None] = {}
    found = []
    for step in steps:
        found.append(_items(step, counts))
        counts |= dict.fromkeys(_gives(step), found[-1])
    return found


def _gives(step: Step) -> list[str]:
    """The names under which later stages know what this one gives."""
    config = step.config
    if config is None:
        return [step.stage.writes]
    return [config.output] if isinstance(config, (PromptsTask, MetadataTask, CaptionTask, CollectConfig)) else []


def _items(step: Step, counts: Mapping[str, int | None]) -> int | None:
    """How many prompts, samples or pictures a stage goes through: from its file where it is there, else from what the
    stages before it give."""
    config = step.config
    if config is None or isinstance(config, (PromptsTask, MetadataTask)):
        made = find(_gives(step)[0])
        if made.exists():
            return len(read_prompts(made))
        known = step.stage.items or (_prompts(config.annotation, counts) if isinstance(config, MetadataTask) else None)
        return _at_most(known, getattr(config, "limit", None))
    if isinstance(config, CollectConfig):
        return _candidates(config, counts)
    if isinstance(config, CaptionTask) and config.annotation is not None:
        return _prompts(config.annotation, counts)
    sizes = [_samples(folder, counts) for folder in config.data]
    samples = None if None in sizes else sum(sizes)
    if isinstance(config, TrainConfig) and samples is not None:
        passes = round(config.epochs * samples * config.fraction)
        return _at_most(passes, config.max_steps and config.max_steps * config.batch_size)
    limit = config.samples if isinstance(config, NormalizeConfig) else getattr(config, "limit", None)
    return samples if isinstance(config, EvaluateConfig) else _at_most(samples, limit)


def _candidates(config: CollectConfig, counts: Mapping[str, int | None]) -> int | None:
    prompts = _at_most(_prompts(config.annotation, counts), config.limit)
    return None if prompts is None else prompts * config.candidates


def _at_most(count: int | None, limit: int | None) -> int | None:
    return count if count is None or limit is None else min(count, limit)


def _prompts(file: str, counts: Mapping[str, int | None]) -> int | None:
    path = find(file)
    return len(read_prompts(path)) if path.exists() else counts.get(file)


def _samples(folder: str | Generated, counts: Mapping[str, int | None]) -> int | None:
    if isinstance(folder, Generated):
        return _candidates(load(CollectConfig, folder.generate, folder.overrides), counts)
    if (place(folder) / "index.json").exists():
        return read_layout(place(folder)).samples
    return counts.get(folder)
