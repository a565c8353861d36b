"""`vhs report` and `vhs demo`: looking at runs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


def report(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Makes the report of a run again, of an interrupted one too, and its figures as files.

    vhs report outputs/tiny
    vhs report outputs/tiny --figures outputs/tiny/figures
    """
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--figures", type=Path, help="folder for curve, distribution, calibration and cost (PNG, PDF)")
    arguments = parser.parse_args(words)
    from vhs.runs import report as reports

    print(reports.report(arguments.run, arguments.figures))


def demo(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """A page to play with: type a prompt, choose verifier and N, watch candidates, scores, winner and timings come in.

    vhs demo --config configs/tiny.yaml

    It needs gradio, in an environment of its own: requirements-demo.txt says how.
    """
    parser.add_argument("--config", default="configs/tiny.yaml", help="YAML file (default: %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    parser.add_argument("--port", type=int, help="port (default: the first free one from 7860)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="configuration keys that replace the file's")
    arguments = parser.parse_intermixed_args(words)
    from vhs.config.run import load_config
    from vhs.runs.demo import Session, page

    session = Session(load_config(arguments.config, arguments.overrides))
    page(session).queue().launch(server_name=arguments.host, server_port=arguments.port)
