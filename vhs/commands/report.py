"""`vhs report`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


def report(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Makes the report of a run again, of an interrupted one too, and its figures as files.

    vhs report outputs/tiny
    vhs report outputs/tiny --figures outputs/tiny/figures
    """
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs")
    parser.add_argument("--figures", type=Path, help="folder for curve, distribution, calibration and cost (PNG, PDF)")
    arguments = parser.parse_args(words)
    from vhs.runs.report import report

    for run in arguments.runs:
        out = arguments.figures and (arguments.figures / run.name if len(arguments.runs) > 1 else arguments.figures)
        print(report(run, out))
