"""What the commands of training do: from a configuration to files.

Each takes its configuration and `say`, which shows a line on the way, and returns what it did; `line()` of that is the
command's closing line. Of several processes, only the first has something to say at the end, except when collecting.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from vhs.device import resolve_device, resolve_dtype
from vhs.errors import ConfigError
from vhs.folders import locked
from vhs.paths import expanded, find
from vhs.processes import Process, current_process
from vhs.training.config import EvaluateConfig, TrainConfig
from vhs.training.data.tasks import CollectConfig, NormalizeConfig
from vhs.verifiers.feature_names import single_features

if TYPE_CHECKING:
    import torch

    from vhs.generators import GeneratorSpec
    from vhs.processes import Process
    from vhs.records import Prompt
    from vhs.training.data.collect import Report
    from vhs.training.data.normalization import Moments
    from vhs.training.data.store import CollectedSet, Layout
    from vhs.training.made import Made
    from vhs.training.trainer import Result
    from vhs.verifiers.llava import LlavaVerifier

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


def run_normalize(config: NormalizeConfig, say: Say) -> StatisticsFiles | None:
    """Measures a feature over the sets and writes both files. Processes share the samples; the first one writes."""
    from vhs.training.data.generated import open_source
    from vhs.training.data.normalization import encode_statistics, statistics_paths
    from vhs.training.dataset import check_shapes
    from vhs.training.made import Made, say_done, sets_hashes

    process, sets = current_process(config.timeout), [open_source(named) for named in config.data]
    check_shapes(sets, config.feature)
    paths = statistics_paths(config.output, config.feature)
    made = Made.of(config, paths, sets_hashes(sets))
    with made.lock() if process.first else nullcontext():
        if made.done():
            say_done(made, say if process.first else _silent)
            return StatisticsFiles(made.facts()["count"], paths)
        process.wait()
        moments = _moments(config, sets, process)
        if not process.first:
            return None
        encoded = [data for name, one in moments.items() for data in encode_statistics(one, name)]
        count = next(iter(moments.values())).count
        made.write(dict(zip(paths, encoded, strict=True)), count=count)
        return StatisticsFiles(count, paths)


def _moments(config: NormalizeConfig, sets: list[CollectedSet], process: Process) -> dict[str, Moments]:
    """Mean and variance of the feature over all processes' samples, of several blocks each one's."""
    from vhs.training.data.normalization import Moments

    parts = [(data, part) for data in sets for part in _parts(len(data))]
    if config.samples is not None:
        parts = _first_samples(parts, config.samples)
    mine = [parts[number] for number in process.of(range(len(parts)))]
    moments = {name: Moments(config.per) for name in single_features(config.feature)}
    with tqdm(total=sum(len(part) for _, part in mine), desc="samples", disable=not process.first) as bar:
        for data, part in mine:
            _measure(moments, data, part, config.feature)
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


def _measure(moments: Mapping[str, Moments], data: CollectedSet, part: range, feature: str) -> None:
    """Adds samples to the moments. Raises ConfigError, naming the samples, for a feature that is not finite."""
    batch: torch.Tensor = data.gather(feature, part)
    rows = batch.flatten(2).transpose(1, 2) if batch.ndim == 4 else batch
    try:
        for own, values in zip(moments.values(), rows.chunk(len(moments), dim=-1), strict=True):
            own.update(values)
    except ValueError as error:
        raise ConfigError(f"{data.name(part[0])} to {data.name(part[-1])}: {error}; collect it again") from None


# --------------------------------------------------------------------------------------------------- train and evaluate


def run_train(config: TrainConfig, say: Say) -> Result:
    """Trains one stage; one that is finished already is left as it is."""
    from vhs.training.trainer import train

    process = current_process(config.timeout)
    with tqdm(desc=config.name, disable=not process.first, delay=0.5) as bar:

        def progress(step: int, steps: int, figures: dict[str, float]) -> None:
            bar.total, bar.n = steps, step
            bar.set_postfix({key: f"{value:.4f}" for key, value in figures.items()})
            if "eval_loss" in figures and process.first:
                bar.write(f"step {step}: " + ", ".join(f"{key} {value:.4f}" for key, value in figures.items()))

        return train(config, progress, say if process.first else _silent)


@dataclass(frozen=True)
class Evaluation:
    """The figures on a verifier's scores, as they are in the configured file."""

    figures: dict[str, Any]

    def line(self) -> str:
        from vhs.training.evaluation import table

        return table(self.figures)


@dataclass(frozen=True)
class Captions:
    """The file of what a verifier says about pictures."""

    path: Path
    count: int

    def line(self) -> str:
        return f"{self.count} captions: {self.path}"


@dataclass(frozen=True)
class Choice:
    """Several features' figures and the chosen one, as they are in the configured file."""

    choice: dict[str, Any]

    def line(self) -> str:
        from vhs.training.choice import table

        return table(self.choice)


def run_evaluate(config: EvaluateConfig, say: Say) -> Evaluation | Captions | Choice:
    """Figures on a verifier's scores, or its captions, or a choice among several features, into a file."""
    from vhs.training.data.store import CollectedSet
    from vhs.training.made import Made, say_done, sets_hashes, statistics_hashes

    if config.verifiers:
        return _choose(config, say)
    sets = [CollectedSet(folder) for folder in config.data]
    for data in sets:
        data.require(config.feature)
    labels = {"labels": config.labels} if config.task == "verdicts" else {}
    reads = sets_hashes(sets, labels) | statistics_hashes(config, config.feature)
    made = Made.of(config, [expanded(config.output)], {"verifier": _verifier_hash(config), **reads})
    evaluate = _captions if config.task == "captions" else _figures
    with made.lock():
        if made.done():
            say_done(made, say)
        else:
            evaluate(config, sets, made, say)
        return _evaluated(config, made.files[0])


def _choose(config: EvaluateConfig, say: Say) -> Choice:
    """Every feature's verifier evaluated into a file of its own beside the configured one, then the choice."""
    from vhs.checkpoints.hashes import file_hash
    from vhs.files import as_json
    from vhs.training.choice import choose
    from vhs.training.data.store import CollectedSet
    from vhs.training.made import Made

    for data in map(CollectedSet, config.data):
        for feature in config.verifiers:
            data.require(feature)
    each = config.each()
    found = {feature: run_evaluate(one, say).figures for feature, one in each.items()}
    choice = choose(found, config.margin, config.resamples, config.seed)
    reads = {feature: file_hash(expanded(one.output)) for feature, one in each.items()}
    made = Made.of(config, [expanded(config.output)], reads)
    with made.lock():
        if not made.done():
            made.write({made.files[0]: as_json({"config": config.model_dump(mode="json"), **choice})})
    return Choice(choice)


def _verifier_hash(config: EvaluateConfig) -> str:
    from vhs.checkpoints.hashes import content_hash
    from vhs.checkpoints.source import find_model
    from vhs.training.model import MODEL_FILES

    return content_hash(find_model("verifier", config.verifier, MODEL_FILES).require())


def _evaluated(config: EvaluateConfig, file: Path) -> Evaluation | Captions:
    """What is in the file."""
    from vhs.errors import RunError
    from vhs.files import read_json

    if config.task == "captions":
        return Captions(file, len(file.read_bytes().splitlines()))
    return Evaluation(read_json(file, RunError, "overwrite=true makes it again"))


def _figures(config: EvaluateConfig, sets: list[CollectedSet], made: Made, say: Say) -> None:
    """Writes the figures on the scores of all labelled candidates."""
    from vhs.files import as_json
    from vhs.training.evaluation import figures, score_sets

    verifier = _verifier(config)
    with tqdm(
        total=sum(min(config.limit or len(s.prompts), len(s.prompts)) * s.layout.candidates for s in sets),
        desc="candidates",
    ) as bar:
        rows = score_sets(
            verifier,
            sets,
            config.feature,
            config.labels,
            limit=config.limit,
            shuffle=config.shuffle,
            seed=config.seed,
            progress=bar.update,
        )
    found = figures(rows, config.best_of, selection=config.selection, resamples=config.resamples, seed=config.seed)
    made.write({made.files[0]: as_json({"config": config.model_dump(mode="json"), **found})})


def _verifier(config: EvaluateConfig) -> LlavaVerifier:
    """The verifier, which must read the configured feature: CLIP features come from the set, not from a tower."""
    from vhs.training.data.towers import collected_clip_verifier
    from vhs.verifiers.load import load_verifier

    device = resolve_device(config.device)
    common = {
        "use_generation_prompt": config.use_generation_prompt,
        "dtype": resolve_dtype(config.dtype, device),
        "device": device,
        "micro_batch": config.micro_batch,
    }
    if config.feature == "clip":
        return collected_clip_verifier(config.verifier, **common)
    return load_verifier(
        config.verifier,
        config.feature,
        config.normalization_mean_path,
        config.normalization_variance_path,
        normalization=config.normalization,
        resize_vocabulary=config.resize_vocabulary,
        **common,
    )


def _captions(config: EvaluateConfig, sets: list[CollectedSet], made: Made, say: Say) -> None:
    """Writes one line per picture: its prompt and what the verifier says; of every prompt the first candidate."""
    import torch

    from vhs.training.evaluation import caption

    verifier, lines = _verifier(config), []
    for data in sets:
        indices = [position * data.layout.candidates for position in range(len(data.prompts))][: config.limit]
        for start in range(0, len(indices), config.micro_batch):
            part = indices[start : start + config.micro_batch]
            features = data.gather(config.feature, part).to(verifier.device, torch.float32)
            said = caption(verifier, features, config.question, config.use_generation_prompt, config.max_tokens)
            for index, text in zip(part, said, strict=True):
                lines.append(json.dumps({"prompt": data.prompt(index).text, "caption": text}, ensure_ascii=False))
                say(f"{data.prompt(index).text!r}: {text!r}")
    made.write({made.files[0]: "".join(line + "\n" for line in lines).encode()})
