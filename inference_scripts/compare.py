"""Runs over the same prompts side by side: paired differences, McNemar's test, tables, figures and a page.

python inference_scripts/compare.py outputs/tiny outputs/tiny_prod
python inference_scripts/compare.py outputs/a outputs/b outputs/c --out outputs/comparison
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vhs.errors import VHSError
from vhs.runs.compare import compare


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", help="folders of runs; each is compared with the first")
    parser.add_argument("--out", type=Path, help="folder for compare.html, .csv, .md, .tex and the figures")
    parser.add_argument("--costs", type=Path, help='JSON: {"run": {"TFLOP": [once per prompt, per candidate]}}')
    arguments = parser.parse_args()
    try:
        print(compare(arguments.runs, arguments.out, arguments.costs))
    except VHSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
