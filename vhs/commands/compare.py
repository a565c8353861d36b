"""`vhs compare`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def compare(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Do two runs over the same prompts have the same winners, and what did the early exit save?

    vhs compare outputs/tiny outputs/tiny_prod
    """
    parser.add_argument("dev", help="folder of a run in generation_mode dev")
    parser.add_argument("prod", help="folder of the same run in generation_mode prod")
    arguments = parser.parse_args(words)
    from vhs.runs import compare as runs

    print(runs.compare(arguments.dev, arguments.prod))
