"""What the commands of training do: from a configuration to files.

Each takes its configuration and `say`, which shows a line on the way, and returns what it did; `line()` of that is the
command's closing line. Of several processes, only the first has something to say at the end, except when collecting.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from vhs.config.run import RunConfig, load_config
from vhs.device import resolve_device, resolve_dtype
from vhs.errors import ConfigError
from vhs.paths import find
from vhs.processes import current_process
from vhs.training.config import EvaluateConfig, TrainConfig
from vhs.training.data.tasks import CollectConfig, NormalizeConfig

if TYPE_CHECKING:
    import torch

    from vhs.generators import GeneratorSpec
    from vhs.records import Prompt
    from vhs.training.data.collect import Report
    from vhs.training.data.store import CollectedSet
    from vhs.training.trainer import Result
    from vhs.verifiers.llava import LlavaVerifier

Say = Callable[[str], None]

GENERATOR_KEYS_LEFT_OUT = frozenset({"micro_batch", "offload", "device"})
"""Keys of the generator that change how fast it runs, not what it gives (but by rounding)."""
NORMALIZE_BATCH = 256


# ------------------------------------------------------------------------------------------------------------- collect


def run_collect(config: CollectConfig, say: Say) -> Report:
    """Collects a set, or the rest of it. Everything that can be refused is refused before weights are loaded."""
    from vhs.generators import resolve_generator
    from vhs.prompts import read_prompts
    from vhs.training.data.collect import check_disk, collect, plan

    process = current_process()
    run = load_config(config.run, config.run_overrides)
    if config.micro_batch is not None:
        run = run.changed(micro_batch=config.micro_batch)
    device = resolve_device(run.device, process)
    spec = resolve_generator(run, device, resolve_dtype(run.dtype, device)).fetched()
    prompts = read_prompts(find(config.annotation))[: config.limit]
    records = _check_records(prompts, config)
    tower, clip_shape = _tower(config, device) if config.clip else (None, None)
    layout = plan(spec.info, len(prompts), config, _generator_settings(spec, run), clip_shape)
    space = check_disk(Path(config.output), layout, spec.info.image_size, config.reserve_gib)
    if process.first:
        say(f"{space}; {records}")
    generator = spec.load()
    with tqdm(total=layout.samples // process.count, desc="samples", disable=not process.first) as bar:
        return collect(generator, prompts, config, layout, process=process, tower=tower, progress=bar.update)


def _check_records(prompts: Sequence[Prompt], config: CollectConfig) -> str:
    """How many of the prompts GenEval can judge. Raises ConfigError where all of them must be."""
    without = [prompt for prompt in prompts if not prompt.judged]
    if without and config.require_records:
        raise ConfigError(
            f"{config.annotation}: {len(without)} of {len(prompts)} prompts have no GenEval record, first "
            f"{without[0].text!r}; write records with label.py and task: metadata, or set require_records: false"
        )
    return f"GenEval can judge {len(prompts) - len(without)} of {len(prompts)} prompts"


def _generator_settings(spec: GeneratorSpec, run: RunConfig) -> dict[str, Any]:
    """What the values of a set depend on: the generator, its adapter and its settings."""
    kept = {key: value for key, value in asdict(spec.settings).items() if key not in GENERATOR_KEYS_LEFT_OUT}
    network = {"network_ckpt": run.network_ckpt} if run.network_ckpt else {}
    return {"ckpt": run.ckpt, **network, "sana_lora_weights": run.sana_lora_weights, **kept}


def _tower(config: CollectConfig, device: str) -> tuple[Any, tuple[int, int]]:
    """What maps pictures to CLIP features, and the shape of one picture's."""
    from PIL import Image

    from vhs.training.data.towers import load_tower

    tower = load_tower(config.clip, config.clip_layer, device)
    return tower, tuple(tower([Image.new("RGB", (64, 64))]).shape[1:])


# ----------------------------------------------------------------------------------------------------------- normalise


@dataclass(frozen=True)
class StatisticsFiles:
    """The files of a feature's mean and variance, and over how many values each entry was taken."""

    count: int
    mean: Path
    variance: Path

    def line(self) -> str:
        return f"{self.count} values each: {self.mean}, {self.variance}"


def run_normalize(config: NormalizeConfig, say: Say) -> StatisticsFiles | None:
    """Measures a feature over the sets and writes both files. Processes share the samples; the first one writes."""
    from accelerate.utils import gather_object

    from vhs.training.data.normalization import Moments, save_statistics
    from vhs.training.data.store import CollectedSet
    from vhs.training.dataset import check_shapes

    process, sets = current_process(), [CollectedSet(folder) for folder in config.data]
    check_shapes(sets, config.feature)
    parts = [(data, part) for data in sets for part in _parts(len(data))]
    if config.samples is not None:
        parts = _first_samples(parts, config.samples)
    mine = [parts[number] for number in process.of(range(len(parts)))]
    moments = Moments(config.per)
    with tqdm(total=sum(len(part) for _, part in mine), desc="samples", disable=not process.first) as bar:
        for data, part in mine:
            _measure(moments, data, part, config.feature)
            bar.update(len(part))
    whole = Moments(config.per)
    for one in gather_object([moments]) if process.count > 1 else [moments]:
        whole.merge(one)
    return (
        StatisticsFiles(whole.count, *save_statistics(whole, config.output, config.feature)) if process.first else None
    )


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


def _measure(moments: Any, data: CollectedSet, part: range, feature: str) -> None:
    """Adds samples to the moments. Raises ConfigError, naming the samples, for a feature that is not finite."""
    batch: torch.Tensor = data.gather(feature, part)
    try:
        moments.update(batch.flatten(2).transpose(1, 2) if batch.ndim == 4 else batch)
    except ValueError as error:
        raise ConfigError(f"{data.name(part[0])} to {data.name(part[-1])}: {error}; collect it again") from None


# --------------------------------------------------------------------------------------------------- train and evaluate


def run_train(config: TrainConfig, say: Say) -> Result:
    """Trains one stage."""
    from vhs.training.trainer import Trainer

    process = current_process()
    if process.first and not config.cont and (config.folder / "train.json").exists():
        say(f"{config.folder}: starts over, the checkpoint there is replaced (cont: true goes on)")
    trainer = Trainer(config)
    if process.first:
        held = f", {len(trainer.eval_data)} held out" if trainer.eval_data else ""
        say(f"{len(trainer.train_data)} samples{held}; {trainer.steps} steps of {config.batch_size}")
    with tqdm(total=trainer.steps, desc=config.name, disable=not process.first) as bar:

        def progress(step: int, steps: int, figures: dict[str, float]) -> None:
            bar.n = step
            bar.set_postfix({key: f"{value:.4f}" for key, value in figures.items()})
            if "eval_loss" in figures and process.first:
                bar.write(f"step {step}: " + ", ".join(f"{key} {value:.4f}" for key, value in figures.items()))

        return trainer.run(progress)


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
    from vhs.files import write_json
    from vhs.training.choice import choose
    from vhs.training.data.store import CollectedSet

    sets = [CollectedSet(folder) for folder in config.data]
    for data in sets:
        for feature in config.verifiers or (config.feature,):
            data.require(feature)
    if config.task == "captions":
        return _captions(config, sets, _verifier(config), say)
    if config.verifiers:
        found = {}
        for feature, one in config.each().items():
            say(f"{feature}: {one.verifier}")
            found[feature] = _figures(one, sets, _verifier(one))
        choice = choose(found, config.margin, config.resamples, config.seed)
        write_json(Path(config.output), {"config": config.model_dump(mode="json"), **choice})
        return Choice(choice)
    found = _figures(config, sets, _verifier(config))
    write_json(Path(config.output), {"config": config.model_dump(mode="json"), **found})
    return Evaluation(found)


def _figures(config: EvaluateConfig, sets: list[CollectedSet], verifier: LlavaVerifier) -> dict[str, Any]:
    """One verifier's figures on every labelled candidate."""
    from vhs.training.evaluation import figures, score_sets

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
    return figures(rows, config.best_of, selection=config.selection, resamples=config.resamples, seed=config.seed)


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
        resize_vocabulary=config.resize_vocabulary,
        **common,
    )


def _captions(config: EvaluateConfig, sets: list[CollectedSet], verifier: LlavaVerifier, say: Say) -> Captions:
    """One line per picture: its prompt and what the verifier says; of every prompt the first candidate."""
    import torch

    from vhs.files import write_bytes
    from vhs.training.evaluation import caption

    lines = []
    for data in sets:
        indices = [position * data.layout.candidates for position in range(len(data.prompts))][: config.limit]
        for start in range(0, len(indices), config.micro_batch):
            part = indices[start : start + config.micro_batch]
            features = data.gather(config.feature, part).to(verifier.device, torch.float32)
            said = caption(verifier, features, config.question, config.use_generation_prompt, config.max_tokens)
            for index, text in zip(part, said, strict=True):
                lines.append(json.dumps({"prompt": data.prompt(index).text, "caption": text}, ensure_ascii=False))
                say(f"{data.prompt(index).text!r}: {text!r}")
    write_bytes(Path(config.output), "".join(line + "\n" for line in lines).encode())
    return Captions(Path(config.output), len(lines))
