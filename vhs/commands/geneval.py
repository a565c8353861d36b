"""`vhs geneval`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from vhs.errors import ConfigError


def geneval(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """GenEval's verdicts on a run of this project or on any folder in GenEval's layout.

    vhs geneval --images outputs/tiny
    vhs geneval --images folder --config configs/tiny.yaml detector_size=[64,64]
    vhs geneval --images folder --prompts file.csv
    accelerate launch -m vhs geneval --images outputs/run
    vhs geneval --export outputs/tiny --to folder
    vhs geneval --compare a.jsonl b.jsonl
    """
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--images", type=Path, help="a run of ours, or 00000/metadata.jsonl + 00000/samples/0000.png")
    parser.add_argument(
        "--prompts", type=Path, help="CSV or JSONL of (file, prompt): pictures of any names in --images"
    )
    what.add_argument("--export", type=Path, help="a run of ours; its winners go to --to in GenEval's layout")
    what.add_argument("--compare", type=Path, nargs=2, metavar="JSONL", help="agreement of two results files")
    parser.add_argument("--to", type=Path, help="new folder for --export")
    parser.add_argument("--out", type=Path, help="results file (default: results.jsonl in the folder)")
    parser.add_argument("--config", help="YAML with the judge's keys (default: the run's own, else GenEval's detector)")
    parser.add_argument("--detector", choices=("transformers", "mmdet"), help="library that runs the detector")
    parser.add_argument("--all", action="store_true", help="of a run: every saved candidate, not the winners only")
    parser.add_argument("--keep-going", action="store_true", help="leave out what cannot be judged, and count it")
    parser.add_argument("--restart", action="store_true", help="forget an existing results file")
    parser.add_argument("--draw", type=Path, help="folder for the pictures with boxes, masks and verdicts drawn in")
    parser.add_argument("--no-self-check", action="store_true", help="judge with a detector that is not GenEval's")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="keys of docs/geneval.md, such as device=cuda"
    )
    arguments = parser.parse_intermixed_args(words)
    if arguments.compare:
        from vhs.geneval.compare import compare, report

        print(report(compare(*arguments.compare)))
    elif arguments.export:
        _export(arguments)
    else:
        _judge(arguments)


def _export(args: argparse.Namespace) -> None:
    """`--export`: winners of a run in GenEval's own layout."""
    from vhs.geneval.folders import export

    if not args.to:
        raise ConfigError("--export: needs --to, a new folder")
    laid_out, left_out = export(args.export, args.to)
    without = f", {left_out} prompts without GenEval's metadata left out" if left_out else ""
    print(f"{laid_out} winners laid out in {args.to}{without}")


def _judge(args: argparse.Namespace) -> None:
    """`--images`: verdicts, results file and table."""
    from vhs.geneval.folders import prompt_folders
    from vhs.geneval.spec import judge_config

    if args.prompts is None:
        prompt_folders(args.images)
    overrides = [*args.overrides, *([f"detector={args.detector}"] if args.detector else [])]
    config = judge_config(args.images, args.config, overrides)
    from transformers.utils import logging

    from vhs.geneval.judging import JudgeOptions, judge_folder

    logging.disable_progress_bar()
    out = args.out or args.images / ("results_all.jsonl" if args.all else "results.jsonl")
    judge_folder(
        JudgeOptions(
            args.images,
            out,
            args.prompts,
            every=args.all,
            keep_going=args.keep_going,
            restart=args.restart,
            self_check=not args.no_self_check,
            draw=args.draw,
        ),
        config,
    )
