"""`vhs run`."""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

DEFAULT = "configs/tiny.yaml"


def run(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Best-of-N over a file of prompts.

        vhs run --config configs/tiny.yaml
        vhs run --config configs/tiny.yaml num_samples=16 seed=3 annotation=my_prompts.txt
        vhs run --config configs/tiny.yaml --prompt "a photo of a red circle and a blue star"
        vhs run --config configs/tiny.yaml --config configs/tiny_prod.yaml
        accelerate launch -m vhs run --config configs/sana_sprint_hidden_bo32.yaml

    Every key of the configuration (docs/configuration.md) can be given as key=value. Prompts are GenEval JSON or JSONL,
    CSV with a column prompt or text, or plain text, one a line. Several configurations run one after the other.
    Exit code 2: a mistake in what was given, in one line.
    """
    parser.add_argument("--config", action="append", metavar="FILE", help=f"YAML file; repeatable (default: {DEFAULT})")
    parser.add_argument("--prompt", action="append", metavar="TEXT", help="a prompt instead of a file; repeatable")
    parser.add_argument("--dry-run", action="store_true", help="print what would run and be loaded; load nothing")
    parser.add_argument("--estimate", action="store_true", help="--dry-run, and the time from two timed prompts")
    parser.add_argument("--list-verifiers", action="store_true", help="print the registered verifiers")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="configuration keys that replace the file's")
    arguments = parser.parse_intermixed_args(words)
    if arguments.list_verifiers:
        from vhs.runs.dry_run import verifiers

        return print(verifiers())
    from vhs.config.run import load_config

    configs = [load_config(file, arguments.overrides) for file in arguments.config or [DEFAULT]]
    if arguments.prompt:
        from vhs.runs.typed import with_prompts

        named = any(override.startswith("name=") for override in arguments.overrides)
        configs = [with_prompts(config, arguments.prompt, rename=not named) for config in configs]
    if arguments.dry_run or arguments.estimate:
        from vhs.runs.dry_run import describe

        for config in configs:
            print(describe(config), flush=True)
            if arguments.estimate:
                from vhs.runs.estimate import estimate

                print(estimate(config, say=lambda line: print(line, file=sys.stderr)).text())
        return
    with _uncollected():
        from vhs.runs import runner

        closings = runner.run_each(configs, say=lambda line: print(line, file=sys.stderr))
    for closing in closings:
        print(closing, flush=True)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without garbage collection while libraries are imported: the million objects that they make stay, and the
    collector would go through them again and again, a tenth of what an import takes. Later it leaves them alone."""
    gc.disable()
    try:
        yield
        if not gc.get_freeze_count():  # once in a process: what is garbage by then is never freed
            gc.freeze()
    finally:
        gc.enable()
