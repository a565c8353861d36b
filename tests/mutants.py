"""The share of mutants that the tests kill, by module, from what `make mutate` has left in mutants/.

    python tests/mutants.py

A mutant that runs into the time-out counts as killed, and is counted apart as well; one that no test reaches has
survived. Ends with 1 where a module is below 90 %, or was not checked whole.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
LEAST = 90
CODES = {None: "unchecked"} | dict.fromkeys((1, 3, -11, -9), "killed") | dict.fromkeys((36, 24, 152, 255, -24), "late")
"""What mutmut's exit codes say: not run yet; a test failed or crashed; its time was over. The others survived."""


def line(name: str, found: Counter[str]) -> tuple[str, float]:
    """A row of the table, and the share of the mutants that were killed, in percent."""
    share = 100 * (found["killed"] + found["late"]) / found.total()
    columns = (found.total(), *(found[key] for key in ("killed", "late", "survived", "unchecked")))
    return f"{name:32}" + "".join(f"{column:10}" for column in columns) + f"{share:9.1f} %", share


def main() -> int:
    whole: Counter[str] = Counter()
    shares = []
    print(f"{'':32}" + "".join(f"{head:>10}" for head in ("mutants", "killed", "timed out", "survived", "unchecked")))
    for file in sorted((ROOT / "mutants" / "vhs").rglob("*.py.meta")):
        codes = json.loads(file.read_text(encoding="utf-8"))["exit_code_by_key"]
        if not codes:
            continue
        found = Counter(CODES.get(code, "survived") for code in codes.values())
        whole += found
        row, share = line(str(file.relative_to(ROOT / "mutants")).removesuffix(".meta"), found)
        shares.append(share)
        print(row)
    if not shares:
        sys.exit(f"{ROOT / 'mutants'}: no mutants; `make mutate` makes them")
    print(line("all", whole)[0])
    return int(min(shares) < LEAST)


if __name__ == "__main__":
    sys.exit(main())
