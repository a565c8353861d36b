"""GenEval's verdicts on a run of this project or on any folder in GenEval's layout.

python verifier_scripts/geneval.py --images outputs/tiny
python verifier_scripts/geneval.py --images folder --config configs/tiny.yaml detector_size=[64,64]
accelerate launch verifier_scripts/geneval.py --images outputs/run
python verifier_scripts/geneval.py --export outputs/tiny --to folder
python verifier_scripts/geneval.py --compare a.jsonl b.jsonl
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vhs.errors import VHSError


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--images", type=Path, help="a run of ours, or 00000/metadata.jsonl + 00000/samples/0000.png")
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
    return parser.parse_intermixed_args()


def main(args: argparse.Namespace) -> None:
    """Runs what the command line asks for."""
    if args.compare:
        from vhs.geneval.compare import compare, report

        return print(report(compare(*args.compare)))
    from vhs.geneval.command import export_run, judge_run

    export_run(args) if args.export else judge_run(args)


if __name__ == "__main__":
    try:
        main(arguments())
    except VHSError as error:
        sys.exit(print(f"error: {error}", file=sys.stderr) or 2)
    except KeyboardInterrupt:
        sys.exit(print("interrupted; the same command goes on from here", file=sys.stderr) or 130)
