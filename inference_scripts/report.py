"""Makes the report of a run again, of an interrupted one too, and its figures as files.

python inference_scripts/report.py outputs/tiny
python inference_scripts/report.py outputs/tiny --figures outputs/tiny/figures
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vhs.errors import VHSError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs")
    parser.add_argument("--figures", type=Path, help="folder for curve, distribution, calibration and cost (PNG, PDF)")
    arguments = parser.parse_args()
    try:
        from vhs.runs.report import report

        for run in arguments.runs:
            out = arguments.figures and (arguments.figures / run.name if len(arguments.runs) > 1 else arguments.figures)
            print(report(run, out))
    except VHSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
