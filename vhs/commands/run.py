"""`vhs run`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


def run(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Best-of-N over a file of prompts.

        vhs run --config configs/tiny.yaml
        vhs run --config configs/tiny.yaml num_samples=16 seed=3 annotation=my_prompts.txt
        vhs run --config configs/tiny.yaml --prompt "a photo of a red circle and a blue star"
        accelerate launch -m vhs run --config configs/sana_sprint_hidden_bo32.yaml

    Every key of the configuration (docs/configuration.md) can be given as key=value. Prompts are GenEval JSON or JSONL,
    CSV with a column prompt or text, or plain text, one a line. Exit code 2: a mistake in what was given, in one line.
    """
    parser.add_argument("--config", default="configs/tiny.yaml", help="YAML file (default: %(default)s)")
    parser.add_argument("--prompt", action="append", metavar="TEXT", help="a prompt instead of a file; repeatable")
    parser.add_argument("--dry-run", action="store_true", help="print what would run and be loaded; load nothing")
    parser.add_argument("--list-verifiers", action="store_true", help="print the registered verifiers")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="configuration keys that replace the file's")
    arguments = parser.parse_intermixed_args(words)
    if arguments.list_verifiers:
        from vhs.runs.dry_run import verifiers

        return print(verifiers())
    from vhs.config.run import load_config

    config = load_config(arguments.config, arguments.overrides)
    if arguments.prompt:
        from vhs.runs.typed import with_prompts

        named = any(override.startswith("name=") for override in arguments.overrides)
        config = with_prompts(config, arguments.prompt, rename=not named)
    if arguments.dry_run:
        from vhs.runs.dry_run import describe

        return print(describe(config))
    from vhs.runs import runner

    print(runner.run(config, say=lambda line: print(line, file=sys.stderr)))
