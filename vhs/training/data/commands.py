"""The commands that make a set and measure it, from a configuration to files: collect and normalise. See
`vhs.training.commands` on results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm
from typing_extensions import TypedDict

from vhs.errors import ConfigError
from vhs.folders import locked
from vhs.paths import find
from vhs.processes import Process, current_process
from vhs.training.data.tasks import CollectConfig, NormalizeConfig
from vhs.verifiers.feature_names import side_by_side, single_features

if TYPE_CHECKING:
    import torch

    from vhs.generators import GeneratorSpec
    from vhs.records import Prompt
    from vhs.training.data.collect import Report
    from vhs.training.data.layout import Layout
    from vhs.training.data.normalization import Moments
    from vhs.training.data.store import CollectedSet

Say = Callable[[str], None]

NORMALIZE_BATCH = 32
"""Samples that are measured at once, in float64."""


@dataclass(frozen=True)
class AlreadyDone:
    """What this very command has made before."""

    place: Path

    def line(self) -> str:
        return f"{self.place}: already done; overwrite=true makes it again"


# ------------------------------------------------------------------------------------------------------------- collect


def run_collect(config: CollectConfig, say: Say) -> Report | AlreadyDone | None:
    """Collects a set, or the rest of it. Everything that can be refused is refused before
    weights are loaded."""
    from vhs.prompts import read_prompts
    from vhs.training.data.collect import plan
    from vhs.training.data.generated import generator_settings, resolve_generation

    process = current_process(config.timeout)
    spec, run = resolve_generation(config, process)
    prompts = read_prompts(find(config.annotation))[: config.limit]
    records = _check_records(prompts, config)
    tower, clip_shape = _tower(config, spec.settings.device) if config.clip else (None, None)
    layout = plan(spec.info, len(prompts), config, generator_settings(spec, run, config), clip_shape)
    with locked(config.folder, "set") if process.first else nullcontext():
        return _collect(config, layout, prompts, spec, tower, say if process.first else _silent, records)


def _collect(
    config: CollectConfig,
    layout: Layout,
    prompts: Sequence[Prompt],
    spec: GeneratorSpec,
    tower: Any,
    say: Say,
    records: str,
) -> Report | AlreadyDone | None:
    """Collects into a folder that is this command's alone."""
    from vhs.training.data.collect import check_disk, collect
    from vhs.training.data.store import close_set, decide_set

    process = current_process(config.timeout)
    opening = decide_set(config.folder, layout, prompts, config.overwrite)
    if opening == "done":
        if process.first:
            close_set(config.folder)
        return AlreadyDone(config.folder) if process.first else None
    space = check_disk(config.folder, layout, spec.info.image_size, config.reserve_gib, opening == "replace")
    say(f"{space}; {records}")
    generator = spec.load()
    with tqdm(total=layout.samples // process.count, desc="samples", disable=not process.first) as bar:
        return collect(generator, prompts, config, layout, process=process, tower=tower, progress=bar.update)


def _silent(line: str) -> None:
    """What other processes than the first say."""


def _check_records(prompts: Sequence[Prompt], config: CollectConfig) -> str:
    """How many of the prompts GenEval can judge. Raises ConfigError where all of them must be."""
    without = [prompt for prompt in prompts if not prompt.judged]
    if without and config.require_records:
        raise ConfigError(
            f"{config.annotation}: {len(without)} of {len(prompts)} prompts have no GenEval record, first "
            f"{without[0].text!r}; write records with label.py and task: metadata, or set require_records: false"
        )
    return f"GenEval can judge {len(prompts) - len(without)} of {len(prompts)} prompts"


def _tower(config: CollectConfig, device: str) -> tuple[Any, tuple[int, int]]:
    """What maps pictures to CLIP features, and the shape of one picture's."""
    from PIL import Image

    from vhs.training.data.towers import load_tower

    tower = load_tower(config.clip, config.clip_layer, device)
    return tower, tuple(tower([Image.new("RGB", (64, 64))]).shape[1:])


# ----------------------------------------------------------------------------------------------------------- normalise


@dataclass(frozen=True)
class StatisticsFiles:
    """The files of a feature's mean and variance (of several blocks each one's), and over how many values each entry
    was taken."""

    count: int
    paths: tuple[Path, ...]

    def line(self) -> str:
        return f"{self.count} values each: {', '.join(map(str, self.paths))}"


class Counted(TypedDict):
    """What the record of statistics says of them."""

    count: int


def run_normalize(config: NormalizeConfig, say: Say) -> StatisticsFiles | None:
    """Measures a feature over the sets and writes both files, of several blocks each one's that is not there yet, in
    one pass. Processes share the samples; the first one writes."""
    from vhs.training.data.generated import open_source
    from vhs.training.data.normalization import encode_statistics, statistics_paths
    from vhs.training.dataset import check_shapes
    from vhs.training.made import Made, say_done, sets_hashes

    process, sets = current_process(config.timeout), [open_source(named) for named in config.data]
    check_shapes(sets, config.feature)
    alone = {name: config.model_copy(update={"feature": name}) for name in single_features(config.feature)}
    hashes = sets_hashes(sets)
    each = {name: Made.of(one, statistics_paths(one.output, name), hashes) for name, one in alone.items()}
    with ExitStack() as locks:
        for made in each.values() if process.first else ():
            locks.enter_context(made.lock())
        left = [name for name, made in each.items() if not made.done()]
        for name in [name for name in each if name not in left]:
            say_done(each[name], say if process.first else _silent)
        process.wait()
        moments = _moments(config, left, sets, process) if left else {}
        if not process.first:
            return None
        for name, own in moments.items():
            files = zip(each[name].files, encode_statistics(own, name), strict=True)
            each[name].write(dict(files), count=own.count)
        count = next(iter(each.values())).facts(Counted)["count"]
        return StatisticsFiles(count, tuple(file for made in each.values() for file in made.files))


def _moments(
    config: NormalizeConfig, features: Sequence[str], sets: list[CollectedSet], process: Process
) -> dict[str, Moments]:
    """Mean and variance of each of the features over all processes' samples."""
    from vhs.training.data.normalization import Moments

    parts = [(data, part) for data in sets for part in _parts(len(data))]
    if config.samples is not None:
        parts = _first_samples(parts, config.samples)
    # consecutive parts, so that a process reads shards of its own
    mine = parts[len(parts) * process.index // process.count : len(parts) * (process.index + 1) // process.count]
    moments = {name: Moments(config.per) for name in features}
    with tqdm(total=sum(len(part) for _, part in mine), desc="samples", disable=not process.first) as bar:
        for data, part in mine:
            _measure(moments, data, part)
            bar.update(len(part))
    whole = {name: Moments(config.per) for name in moments}
    for one in _gathered({name: own.cpu() for name, own in moments.items()}, process, config.timeout):
        for name, own in one.items():
            whole[name].merge(own)
    return whole


def _gathered(moments: Mapping[str, Moments], process: Process, timeout: float) -> list[Mapping[str, Moments]]:
    """The moments of every process, in their order."""
    if process.count == 1:
        return [moments]
    from accelerate.utils import gather_object

    from vhs.training.state import exchange_tensors

    process.wait()  # an exchange of tensors would give up on a process that is merely slower
    exchange_tensors(timeout)
    return gather_object([moments])


def _parts(samples: int) -> Iterator[range]:
    for start in range(0, samples, NORMALIZE_BATCH):
        yield range(start, min(start + NORMALIZE_BATCH, samples))


def _first_samples(parts: list[tuple[CollectedSet, range]], samples: int) -> list[tuple[CollectedSet, range]]:
    """The parts up to `samples` samples in all."""
    kept = []
    for data, part in parts:
        part = part[:samples]
        samples -= len(part)
        kept += [(data, part)] if part else []
    return kept


def _measure(moments: Mapping[str, Moments], data: CollectedSet, part: range) -> None:
    """Adds samples to the moments. Raises ConfigError, naming the samples, for a feature that is not finite."""
    batch: torch.Tensor = data.gather(side_by_side(moments), part)
    rows = batch.flatten(2).transpose(1, 2) if batch.ndim == 4 else batch
    try:
        for own, values in zip(moments.values(), rows.chunk(len(moments), dim=-1), strict=True):
            own.update(values)
    except ValueError as error:
        raise ConfigError(f"{data.name(part[0])} to {data.name(part[-1])}: {error}; collect it again") from None
