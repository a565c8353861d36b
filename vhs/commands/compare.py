"""`vhs compare`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


def compare(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Runs over the same prompts side by side: paired differences, McNemar's test, tables, figures and a page.

    vhs compare outputs/tiny outputs/tiny_prod
    vhs compare outputs/a outputs/b outputs/c --out outputs/comparison
    vhs compare outputs/tiny --verifiers tiny_hidden_7 clip_score
    vhs compare outputs/tiny --cascade tiny_hidden_7 clip_score

    With --verifiers: what each verifier would have picked among the same candidates, with scores that `vhs score`
    wrote; several runs are then the same prompts under other seeds.
    """
    parser.add_argument("runs", nargs="+", help="folders of runs; each is compared with the first")
    parser.add_argument("--verifiers", nargs="+", help="verifiers to compare on one run's candidates instead")
    parser.add_argument("--cascade", nargs=2, metavar=("FIRST", "SECOND"), help="what FIRST keeps and SECOND chooses")
    parser.add_argument("--out", type=Path, help="folder for compare.html, .csv, .md, .tex and the figures")
    parser.add_argument("--costs", type=Path, help='JSON: {"run": {"TFLOP": [once per prompt, per candidate]}}')
    arguments = parser.parse_args(words)
    if arguments.cascade:
        from vhs.runs import cascade_table

        return print(
            cascade_table.as_text(cascade_table.compare_cascade(arguments.runs, *arguments.cascade), *arguments.cascade)
        )
    if arguments.verifiers:
        from vhs.runs.verifiers_table import compare_verifiers, report

        return print(report(compare_verifiers(arguments.runs, arguments.verifiers), arguments.out))
    from vhs.runs import compare as runs

    print(runs.compare(arguments.runs, arguments.out, arguments.costs))
