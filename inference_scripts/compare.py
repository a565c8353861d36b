"""Do two runs over the same prompts have the same winners, and what did the early exit save?

python inference_scripts/compare.py outputs/tiny outputs/tiny_prod
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
    parser.add_argument("dev", help="folder of a run in generation_mode dev")
    parser.add_argument("prod", help="folder of the same run in generation_mode prod")
    arguments = parser.parse_args()
    try:
        print(compare(arguments.dev, arguments.prod))
    except VHSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
