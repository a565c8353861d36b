"""`vhs tables`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from vhs.errors import ConfigError
from vhs.paper import FORMATS


def tables(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """The paper's tables from run folders: means and deviations over seeds, intervals, the paper's figures beside.

    vhs tables --table main --plan
    vhs tables --table main --run device=cuda
    vhs tables --table table5 --rows main_1100_vhs scoring_vhs_none --seeds 1 --out table5.tex
    vhs tables --table all --world tiny --run --out docs/results/tiny.md

    Tables are main, layers, losses, llm, table5, table6, table7, figure5 and all. A row is a file of configs/paper (the
    tiny world's: configs/tiny_tables) and runs over several seeds; --run goes on where it was interrupted.
    """
    parser.add_argument("--table", required=True, help="a table's name, or all")
    parser.add_argument("--world", choices=("paper", "tiny"), default="paper", help="whose rows (default: %(default)s)")
    parser.add_argument("--rows", nargs="+", default=[], metavar="ROW", help="some of its rows alone")
    parser.add_argument("--seeds", type=int, help="how many seeds (default: as many as a row's file names)")
    parser.add_argument("--measured", action="store_true", help="N that fits a row's budget here, not the paper's N")
    parser.add_argument("--plan", action="store_true", help="what is missing: commands, downloads, hours, disk")
    parser.add_argument("--run", action="store_true", help="make what is missing, then the table")
    parser.add_argument("--out", type=Path, metavar="FILE", help=f"write it there: .{', .'.join(FORMATS)}")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="keys that replace those of every row's file")
    args = parser.parse_intermixed_args(words)
    args.overrides += [word for word in args.rows if "=" in word]  # a list of rows takes what follows it
    args.rows = [word for word in args.rows if "=" not in word]
    if args.seeds is not None and args.seeds < 1:
        raise ConfigError(f"--seeds: {args.seeds} is no number of seeds; 1 or more is needed")
    if args.out and args.out.suffix.removeprefix(".") not in FORMATS:
        raise ConfigError(f"--out: {args.out}: a table is written as {', '.join(f'.{one}' for one in FORMATS)}")
    _answer(args)


def _answer(args: argparse.Namespace) -> None:
    from vhs.files import write_bytes
    from vhs.paper import plan
    from vhs.paper.budgets import candidates
    from vhs.paper.build import build_all
    from vhs.paper.formats import rendered
    from vhs.paper.published import choose, read_tables
    from vhs.paper.rows import Asked, rows_of, rows_to_run, single
    from vhs.runs import runner

    chosen = choose(args.table, args.rows, read_tables())
    asked = Asked(args.world, args.seeds, tuple(args.overrides), args.measured)
    if args.plan:
        return print(plan.as_text(plan.plan(rows_to_run(chosen, asked))))
    if args.run:
        plan.make(
            rows_to_run(chosen, asked),
            lambda config: runner.run(config, say=_say),
            lambda row: candidates(row, single(asked), _say),
            _say,
        )
    built = build_all([(table, rows_of(table, asked)) for table in chosen], compared=args.world == "paper")
    fmt = args.out.suffix.removeprefix(".") if args.out else "txt"
    text = rendered(built, fmt)
    if args.out is None:
        return print(text, end="")
    write_bytes(args.out, text.encode())
    print(args.out)


def _say(line: str) -> None:
    print(line, file=sys.stderr)
