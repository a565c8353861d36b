"""The two longer answers of verifier_scripts/geneval.py."""

from __future__ import annotations

import argparse

from vhs.errors import ConfigError
from vhs.geneval.folders import export, prompt_folders
from vhs.geneval.spec import judge_config


def export_run(args: argparse.Namespace) -> None:
    """`--export`: winners of a run in GenEval's own layout."""
    if not args.to:
        raise ConfigError("--export: needs --to, a new folder")
    laid_out, left_out = export(args.export, args.to)
    print(
        f"{laid_out} winners laid out in {args.to}"
        + (f", {left_out} prompts without GenEval's metadata left out" if left_out else "")
    )


def judge_run(args: argparse.Namespace) -> None:
    """`--images`: verdicts, results file and table."""
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
            every=args.all,
            keep_going=args.keep_going,
            restart=args.restart,
            self_check=not args.no_self_check,
            draw=args.draw,
        ),
        config,
    )
