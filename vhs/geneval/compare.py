"""Do two results files agree? Per tag, and on which pictures they do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vhs.errors import RunError
from vhs.geneval.results import Row, read_rows
from vhs.records import TAGS


@dataclass(frozen=True)
class Comparison:
    """Matched rows of two files, and how many of each had no counterpart."""

    pairs: Sequence[tuple[Row, Row]]
    only_first: int
    only_second: int

    @property
    def differing(self) -> list[tuple[Row, Row]]:
        """Pairs with another verdict."""
        return [(a, b) for a, b in self.pairs if a["correct"] != b["correct"]]


def compare(first: Path, second: Path) -> Comparison:
    """Matches rows by prompt folder and the picture's rank in it, so that `samples/best_00003.jpg` of a run meets
    `samples/0000.png` of its export. Raises RunError where nothing matches or prompts differ."""
    one, other = (_ranked(read_rows(path)) for path in (first, second))
    pairs = [(one[key], other[key]) for key in one if key in other]
    if not pairs:
        raise RunError(f"{first}, {second}: no prompt folder in common; both must be of the same pictures")
    for a, b in pairs:
        if a["prompt"] != b["prompt"]:
            raise RunError(
                f"{a['filename']} is of {a['prompt']!r}, {b['filename']} of {b['prompt']!r}: not the same prompts"
            )
    return Comparison(pairs, len(one) - len(pairs), len(other) - len(pairs))


def report(comparison: Comparison) -> str:
    """Agreement per tag and overall, then a block for every picture with another verdict."""
    lines = [f"{'':<14} {'pictures':>8} {'agree':>7}  first / second correct"]
    for tag in [*TAGS, "all"]:
        pairs = [(a, b) for a, b in comparison.pairs if tag in ("all", a["tag"])]
        if pairs:
            same = sum(a["correct"] == b["correct"] for a, b in pairs) / len(pairs)
            rates = " / ".join(f"{sum(bool(pair[i]['correct']) for pair in pairs) / len(pairs):.1%}" for i in (0, 1))
            lines.append(f"{tag:<14} {len(pairs):>8} {same:>7.1%}  {rates}")
    if comparison.only_first or comparison.only_second:
        lines.append(
            f"without counterpart: {comparison.only_first} in the first, {comparison.only_second} in the second"
        )
    for a, b in comparison.differing:
        lines.append(f"\n{_folder(a)}  {a['tag']}  {a['prompt']}")
        lines += [f"  {_verdict(row)}  {row['filename']}" for row in (a, b)]
    return "\n".join(lines)


def _verdict(row: Row) -> str:
    return "correct" if row["correct"] else f"wrong ({'; '.join(row['reason'].splitlines())})"


def _folder(row: Row) -> str:
    return (Path(row["filename"]).parts[-3:] or ("",))[0]


def _ranked(rows: Sequence[Row]) -> dict[tuple[str, int], Row]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(_folder(row), []).append(row)
    return {
        (folder, rank): row
        for folder, group in groups.items()
        for rank, row in enumerate(sorted(group, key=lambda row: Path(row["filename"]).name))
    }
