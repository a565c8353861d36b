"""What the commands in verifier_scripts/ do: from a configuration to files, with words on the way.

Each takes its configuration and `say`, which shows a line; each returns its closing line (collecting: one a process;
otherwise the first process's).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from vhs.config.run import RunConfig, load_config
from vhs.device import resolve_device, resolve_dtype
from vhs.errors import ConfigError, VHSError
from vhs.paths import find
from vhs.processes import current_process
from vhs.training.config import EvaluateConfig, TrainConfig
from vhs.training.data.tasks import CollectConfig, NormalizeConfig

if TYPE_CHECKING:
    from vhs.generators import GeneratorSpec
    from vhs.training.data.store import CollectedSet
    from vhs.verifiers.llava import LlavaVerifier

Say = Callable[[str], None]

GENERATOR_KEYS_LEFT_OUT = frozenset({"micro_batch", "offload", "device"})
"""Keys of the generator that change how fast it runs, not what it gives (but by rounding)."""


def command(
    doc: str, load: Callable[[str, Sequence[str]], Any], run: Callable[[Any, Say], str], interrupted: str
) -> int:
    """A script of verifier_scripts/: its arguments, `run` on the configuration that `load` reads, its exit code.

    `doc` is the script's own text, `interrupted` what to say after Ctrl-C.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="YAML file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="configuration keys that replace the file's")
    arguments = parser.parse_intermixed_args()
    try:
        line = run(load(arguments.config, arguments.overrides), lambda line: print(line, file=sys.stderr))
        if line:
            print(line)
    except VHSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"interrupted; {interrupted}", file=sys.stderr)
        return 130
    return 0


def run_collect(config: CollectConfig, say: Say) -> str:
    """Collects a set, or the rest of it. Everything that can be refused is refused before weights are loaded."""
    from vhs.generators import resolve_generator
    from vhs.prompts import read_prompts
    from vhs.training.data.collect import check_disk, collect, first, plan

    process = current_process()
    run = load_config(find(config.run), config.run_overrides)
    if config.micro_batch is not None:
        run = run.changed(micro_batch=config.micro_batch)
    device = resolve_device(run.device, process)
    spec = resolve_generator(run, device, resolve_dtype(run.dtype, device)).fetched()
    prompts = first(read_prompts(find(config.annotation)), config.limit)
    tower, clip_shape = _tower(config, device) if config.clip else (None, None)
    layout = plan(spec.info, len(prompts), config, _generator_settings(spec, run), clip_shape)
    line = check_disk(Path(config.output), layout, spec.info.image_size, config.reserve_gib)
    if process.first:
        say(line)
    generator = spec.load()
    with tqdm(total=layout.samples // process.count, desc="samples", disable=not process.first) as bar:
        report = collect(generator, prompts, config, layout, process=process, tower=tower, progress=bar.update)
    return report.line()


def _generator_settings(spec: GeneratorSpec, run: RunConfig) -> dict[str, Any]:
    """What the values of a set depend on: the generator, its adapter and its settings."""
    kept = {key: value for key, value in asdict(spec.settings).items() if key not in GENERATOR_KEYS_LEFT_OUT}
    return {"ckpt": run.ckpt, "sana_lora_weights": run.sana_lora_weights, **kept}


def _tower(config: CollectConfig, device: str) -> tuple[Any, tuple[int, int]]:
    """What maps pictures to CLIP features, and the shape of one picture's."""
    from PIL import Image

    from vhs.training.data.towers import load_tower

    tower = load_tower(config.clip, config.clip_layer, device)
    return tower, tuple(tower([Image.new("RGB", (64, 64))]).shape[1:])


def run_normalize(config: NormalizeConfig, say: Say) -> str:
    """Measures a feature over whole sets and writes both files."""
    from vhs.training.data.normalization import Moments, save_statistics
    from vhs.training.data.store import CollectedSet
    from vhs.training.dataset import check_shapes

    sets = [CollectedSet(folder) for folder in config.data]
    check_shapes(sets, config.feature)
    moments = Moments(config.per)
    with tqdm(total=sum(map(len, sets)), desc="samples") as bar:
        for data in sets:
            for start, batch in enumerate(data.batches(config.feature)):
                try:
                    moments.update(batch.flatten(2).transpose(1, 2) if batch.ndim == 4 else batch)
                except ValueError as error:
                    raise ConfigError(
                        f"{data.name(start * 256)} and the 255 after it: {error}; collect it again"
                    ) from None
                bar.update(len(batch))
    paths = save_statistics(moments, config.output, config.feature)
    return f"{moments.count} values each: {paths[0]}, {paths[1]}"


def run_train(config: TrainConfig, say: Say) -> str:
    """Trains one stage and says how it ended."""
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

        result = trainer.run(progress)
    best = ", ".join(f"{key} {value:.4f}" for key, value in result.best.items())
    if not process.first:
        return ""
    return f"{result.checkpoint}: of step {result.best_step}{f' ({best})' if best else ''}, {result.seconds:.0f} s"


def run_evaluate(config: EvaluateConfig, say: Say) -> str:
    """Figures on a verifier's scores, or its captions, into a file; returns the figures as a table."""
    from vhs.files import write_json
    from vhs.training.data.store import CollectedSet
    from vhs.training.evaluation import figures, score_sets, table

    sets = [CollectedSet(folder) for folder in config.data]
    for data in sets:
        data.require(config.feature)
    verifier = _verifier(config)
    if config.task == "captions":
        return _captions(config, sets, verifier, say)
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
    write_json(Path(config.output), {"config": config.model_dump(mode="json"), **found})
    return table(found)


def _verifier(config: EvaluateConfig) -> LlavaVerifier:
    """The verifier, which must read the configured feature: CLIP features come from the set, not from a tower."""
    from vhs.training.data.towers import collected_clip_verifier
    from vhs.verifiers.load import load_verifier

    device = config.device
    if device == "auto":
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = config.dtype if config.dtype != "auto" else "float32" if device == "cpu" else "bfloat16"
    common = {
        "use_generation_prompt": config.use_generation_prompt,
        "dtype": dtype,
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


def _captions(config: EvaluateConfig, sets: list[CollectedSet], verifier: LlavaVerifier, say: Say) -> str:
    """One line a picture: its prompt and what the verifier says; the first candidate of every prompt."""
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
    return f"{len(lines)} captions: {config.output}"
