"""`vhs rank` and `vhs score`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from vhs.errors import ConfigError


def rank(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Ranks pictures from anywhere by any verifier that reads pictures (docs/verifiers.md).

    vhs rank --images folder --prompt "a photo of a cat" --verifier clip_score --top 4 --copy
    vhs rank --pictures table.csv --verifier pick_score
    vhs rank --images folder --verifier mine registry=mine.py

    A table has the columns file and prompt. Without --prompt, --images is a folder in GenEval's layout:
    00000/metadata.jsonl and 00000/samples/.
    """
    _add_pictures(parser)
    parser.add_argument("--verifier", help="a name of the registry (vhs run --list-verifiers)")
    parser.add_argument("--top", type=int, default=1, help="how many to keep of each prompt (default: %(default)s)")
    parser.add_argument("--tournament", action="store_true", help="VISA's: the best of each contiguous N/top group")
    best = parser.add_mutually_exclusive_group()
    best.add_argument("--copy", action="store_const", const="copy", dest="best", help="copy the best to the output")
    best.add_argument("--link", action="store_const", const="link", dest="best", help="link to them instead")
    parser.add_argument("--out", type=Path, help="folder of table, sheet and best (default: outputs/rank/<name>)")
    arguments = parser.parse_intermixed_args(words)
    from vhs.ranking.files import RankJob, run_ranking

    run_ranking(RankJob(**vars(arguments)))


def score(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Scores of registered verifiers over candidates that are there: a run's, or any pictures; a JSONL per verifier.

    vhs score outputs/run --verifiers tiny_hidden_7 clip_score
    vhs score --images folder --prompt "a photo of a cat" --verifiers pick_score --out scores

    Of a run, pictures are read from disk, hidden states and latents made again from its seeds; the files go to
    outputs/run/scores. `vhs compare outputs/run --verifiers ...` compares them, an entry of kind scores runs by them.
    """
    _add_pictures(parser, "run or key=value")
    parser.add_argument("--verifiers", nargs="+", required=True, help="names of the registry")
    parser.add_argument("--out", type=Path, default=Path("scores"), help="folder of the files of pictures")
    arguments = parser.parse_intermixed_args(words)
    given = [*arguments.verifiers, *arguments.keys]
    keys = [word for word in given if "=" in word]
    names = [word for word in arguments.verifiers if "=" not in word]
    runs = [word for word in arguments.keys if "=" not in word]
    from vhs.ranking.files import score_pictures
    from vhs.ranking.groups import find_groups
    from vhs.ranking.rank import parse_keys
    from vhs.runs.scoring import score_run

    if len(runs) > 1 or bool(runs) == bool(arguments.images or arguments.table):
        raise ConfigError("score: name one run, or pictures by --images or --pictures")
    if runs:
        score_run(runs[0], names, parse_keys(keys))
    else:
        score_pictures(find_groups(arguments.images, arguments.table, arguments.prompt), names, keys, arguments.out)


def _add_pictures(parser: argparse.ArgumentParser, words: str = "key=value") -> None:
    parser.add_argument("--images", type=Path, help="a folder of pictures, or of prompts in GenEval's layout")
    parser.add_argument("--prompt", help="what the pictures in --images should show")
    parser.add_argument(
        "--pictures",
        type=Path,
        dest="table",
        help="CSV, TSV or JSONL of (file, prompt); files are relative to --images, else to the table",
    )
    parser.add_argument("keys", nargs="*", metavar=words, help="keys of the verifier and the device")
