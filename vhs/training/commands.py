"""What train.py and evaluate.py do: from a configuration to files. Collecting and normalising are in data/commands.py,
label.py's tasks in data/label_commands.py.

Each takes its configuration and `say`, which shows a line on the way, and returns what it did; `line()` of that is the
command's closing line. Of several processes, only the first has something to say at the end, except when collecting.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from vhs.device import resolve_device, resolve_dtype
from vhs.paths import expanded
from vhs.processes import current_process
from vhs.training.config import EvaluateConfig, TrainConfig

if TYPE_CHECKING:
    from vhs.training.data.store import CollectedSet
    from vhs.training.made import Made
    from vhs.training.trainer import Result
    from vhs.verifiers.llava import LlavaVerifier

Say = Callable[[str], None]


def run_train(config: TrainConfig, say: Say) -> Result:
    """Trains one stage; one that is finished already is left as it is."""
    from vhs.training.trainer import train

    process = current_process(config.timeout)
    with tqdm(desc=config.name, disable=not process.first, delay=0.5) as bar:

        def progress(step: int, steps: int, figures: dict[str, float]) -> None:
            bar.total = steps  # shown at once, a bar with a delay would not end its line where an error follows
            bar.set_postfix({key: f"{value:.4f}" for key, value in figures.items()}, refresh=False)
            bar.update(step - bar.n)
            if "eval_loss" in figures and process.first:
                bar.write(f"step {step}: " + ", ".join(f"{key} {value:.4f}" for key, value in figures.items()))

        return train(config, progress, say if process.first else lambda line: None)


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
    from vhs.training.evaluation import check_labelled
    from vhs.training.made import Made, say_done, sets_hashes, statistics_hashes

    if config.verifiers:
        return _choose(config, say)
    sets = [CollectedSet(folder) for folder in config.data]
    for data in sets:
        data.require(config.feature)
    if config.task == "verdicts":
        check_labelled(sets, config.labels, config.best_of, config.limit)
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
