"""The paper's ablations in miniature, one after the other, and their table in Markdown.

    python verifier_scripts/ablations.py                      # what is missing of all
    python verifier_scripts/ablations.py block_5 input_ae     # of these
    python verifier_scripts/ablations.py --show block_5       # its trainings and its evaluation as whole YAML
    python verifier_scripts/ablations.py --table              # the table alone

Each is a row of vhs/training/ablations.py; figures go to outputs/paper/<name>.json, and a row that has them is not run
again. docs/training.md says what they need: candidates, statistics, adapters.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vhs.errors import VHSError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names", nargs="*", metavar="name or key=value", help="ablations, and keys that replace every training's"
    )
    parser.add_argument("--show", action="store_true", help="print every key of the configurations and run nothing")
    parser.add_argument("--table", action="store_true", help="show what there is and run nothing")
    arguments = parser.parse_args()
    from vhs.training import ablations

    try:
        rows = ablations.choose([name for name in arguments.names if "=" not in name])
        overrides = [name for name in arguments.names if "=" in name]
        if arguments.show:
            print("---\n".join(ablations.show(row, overrides) for row in rows), end="")
            return 0
        if not arguments.table:
            for row in rows:
                ablations.run(row, overrides, lambda line: print(line, file=sys.stderr))
        print(ablations.table(rows))
    except VHSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
