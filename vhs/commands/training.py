"""The commands of training, from `vhs collect` to `vhs pipeline`; docs/training.md explains their keys."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any


def collect(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """K variants of every prompt through the generator: hidden states, final latents, pictures.

        vhs collect --config configs/train/collect_tiny.yaml
        vhs collect --config configs/train/collect_tiny.yaml "blocks=[1, 5, 7, 9, 19]" candidates=4
        accelerate launch -m vhs collect --config configs/train/collect_sana_sprint.yaml

    The same command goes on after an interruption. Keys are explained in docs/training.md.
    """
    file, overrides = _configuration(parser, words)
    from vhs.config.yamlfile import load
    from vhs.training.data.commands import run_collect
    from vhs.training.data.tasks import CollectConfig

    _show(run_collect, load(CollectConfig, file, overrides), each_process=True)


def normalize(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Mean and variance of a collected feature, in the release's two files.

    vhs normalize --config configs/train/normalize_tiny.yaml
    vhs normalize --config configs/train/normalize_tiny.yaml feature=hidden_5
    """
    file, overrides = _configuration(parser, words)
    from vhs.config.yamlfile import load
    from vhs.training.data.commands import run_normalize
    from vhs.training.data.tasks import NormalizeConfig

    _show(run_normalize, load(NormalizeConfig, file, overrides))


def label(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """What collected pictures and prompts are called: verdicts, metadata, captions, CLIP-Score, prompt files.

        vhs label --config configs/train/label_tiny.yaml
        vhs label --config configs/train/metadata_rules.yaml annotation=my_prompts.txt
        accelerate launch -m vhs label --config configs/train/caption_gemma.yaml

    The key `task` of the configuration says which; docs/training.md explains them.
    """
    file, overrides = _configuration(parser, words)
    from vhs.training.data.label_commands import run_label
    from vhs.training.data.tasks import load_label_config

    _show(run_label, load_label_config(file, overrides))


def train(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """One stage of training a verifier: the connector on captions, or connector and LLM on yes and no.

        vhs train --config configs/train/align_tiny.yaml
        vhs train --config configs/train/finetune_tiny.yaml seed=1 name=seed_1
        accelerate launch --config_file configs/accelerate/ddp.yaml -m vhs train --config <file.yaml>

    `cont=true` goes on from the last saved state. Keys are explained in docs/training.md.
    """
    file, overrides = _configuration(parser, words)
    from vhs.config.yamlfile import load
    from vhs.training.commands import run_train
    from vhs.training.config import TrainConfig

    _show(run_train, load(TrainConfig, file, overrides))


def evaluate(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """A verifier on held-out candidates: accuracy, AUC, calibration, best-of-N gain; or the captions it would give.

    vhs evaluate --config configs/train/evaluate_tiny.yaml
    vhs evaluate --config configs/train/captions_tiny.yaml
    """
    file, overrides = _configuration(parser, words)
    from vhs.config.yamlfile import load
    from vhs.training.commands import run_evaluate
    from vhs.training.config import EvaluateConfig

    _show(run_evaluate, load(EvaluateConfig, file, overrides))


def pipeline(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """A whole training by one file: the stages that are not done yet, in their order, on all processes.

        vhs pipeline --config configs/train/tiny.yaml
        vhs pipeline --config configs/train/sana_sprint_hidden_7.yaml --plan
        vhs pipeline --config configs/train/tiny.yaml collect.limit=20 align.max_steps=5
        accelerate launch -m vhs pipeline --config configs/train/sana_sprint_hidden_7.yaml

    The same command goes on after an interruption. `--plan` loads nothing and prints what each stage would make, how
    large it is, GPU hours at the rates that the file states or that were measured, and downloads.
    """
    parser.add_argument("--plan", action="store_true", help="print what it would cost and run nothing")
    parser.add_argument(
        "--rates", metavar="record.json", help="for --plan: rates that another pipeline's record has measured"
    )
    file, overrides, arguments = _parsed(parser, words)
    from vhs.training.pipeline import load_pipeline, read_record, run_pipeline

    config, steps = load_pipeline(file, overrides)
    if not arguments.plan:
        return _show(lambda _, say: run_pipeline(config, steps, say), config)
    from vhs.training.plan import describe

    rates = read_record(config.model_copy(update={"record": arguments.rates})) if arguments.rates else {}
    return print(describe(steps, read_record(config), rates))


def ablations(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """The paper's ablations in miniature, one after the other, and their table in Markdown.

        vhs ablations                      # what is missing of all
        vhs ablations block_5 input_ae     # of these
        vhs ablations --show block_5       # its trainings and its evaluation as whole YAML
        vhs ablations --table              # the table alone
        vhs ablations --table --tag counting    # of the prompts of one GenEval tag

    Each is a row of vhs/training/ablations.py; figures go to outputs/paper/<name>.json, and a row that has them is
    not run again. docs/training.md says what they need: candidates, statistics, adapters.
    """
    parser.add_argument(
        "names", nargs="*", metavar="name or key=value", help="ablations, and keys that replace every training's"
    )
    parser.add_argument("--show", action="store_true", help="print every key of the configurations and run nothing")
    parser.add_argument("--table", action="store_true", help="show what there is and run nothing")
    parser.add_argument("--tag", help="for the table: the prompts of this GenEval tag alone (default: all prompts)")
    arguments = parser.parse_intermixed_args(words)
    from vhs.training import ablations

    rows = ablations.choose([name for name in arguments.names if "=" not in name])
    overrides = [name for name in arguments.names if "=" in name]
    if arguments.show:
        return print("---\n".join(ablations.show(row, overrides) for row in rows), end="")
    for row in () if arguments.table else rows:
        ablations.run(row, overrides, _say)
    print(ablations.table_of(arguments.tag, rows) if arguments.tag else ablations.table(rows))


def _configuration(parser: argparse.ArgumentParser, words: Iterable[str]) -> tuple[str, list[str]]:
    """The YAML file and the overrides that a command line names."""
    file, overrides, _ = _parsed(parser, words)
    return file, overrides


def _parsed(parser: argparse.ArgumentParser, words: Iterable[str]) -> tuple[str, list[str], argparse.Namespace]:
    """The same, and all arguments."""
    parser.add_argument("--config", required=True, help="YAML file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="configuration keys that replace the file's")
    arguments = parser.parse_intermixed_args(words)
    return arguments.config, arguments.overrides, arguments


def _show(run: Callable[[Any, Callable[[str], None]], Any], config: Any, each_process: bool = False) -> None:
    """Runs with progress on standard error, and prints the closing line: the first process's, or `each_process`'s. What
    a single process does, the first of several does alone, while the others wait."""
    from vhs.processes import current_process
    from vhs.training.stages import alone

    single = alone(config)
    done = run(config, _say) if not single or current_process().first else None
    if single:
        current_process().wait()
    if done is not None and (each_process or current_process().first):
        print(done.line())


def _say(line: str) -> None:
    print(line, file=sys.stderr)
