"""The share of mutants that the tests kill, by module, from what `make mutate` has left in mutants/.

    python tests/mutants.py

A mutant that runs into the time-out counts as killed; one that no test reaches has survived.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
KILLED = {1, 3, 36, 24, 152, 255, -24, -11, -9}
"""Exit codes of mutmut: a test failed, its time was over, or it crashed."""


def main() -> None:
    total: Counter[str] = Counter()
    for file in sorted((ROOT / "mutants" / "vhs").rglob("*.py.meta")):
        codes = json.loads(file.read_text(encoding="utf-8"))["exit_code_by_key"]
        checked = {name: code for name, code in codes.items() if code is not None}
        if not checked:
            continue
        killed = sum(code in KILLED for code in checked.values())
        total += Counter(killed=killed, checked=len(checked))
        name = str(file.relative_to(ROOT / "mutants")).removesuffix(".meta")
        print(f"{name:32}{killed:5} of {len(checked):4} killed, {100 * killed / len(checked):5.1f} %")
    if total:
        killed, checked = total["killed"], total["checked"]
        print(f"{'all':32}{killed:5} of {checked:4} killed, {100 * killed / checked:5.1f} %")


if __name__ == "__main__":
    main()
