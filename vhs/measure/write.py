"""A benchmark's rows as JSON, CSV and Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vhs.files import write_bytes, write_json

Row = Mapping[str, Any]


def write(folder: Path, name: str, machine: Row, rows: Sequence[Row], text: str) -> list[Path]:
    """`<name>.json` (all there is), `<name>.csv` (plain columns) and `<name>.md`; returns their paths.

    Raises RunError, naming the file, where the disk refuses.
    """
    files = [folder / f"{name}.{ending}" for ending in ("json", "csv", "md")]
    write_json(files[0], {"machine": dict(machine), "rows": [dict(row) for row in rows]})
    write_bytes(files[1], as_csv(rows).encode())
    write_bytes(files[2], text.encode())
    return files


def flat(row: Row) -> dict[str, Any]:
    """Nested values under `outer.inner`."""
    plain: dict[str, Any] = {}
    for key, value in row.items():
        plain.update(
            {f"{key}.{inner}": one for inner, one in value.items()} if isinstance(value, Mapping) else {key: value}
        )
    return plain


def as_csv(rows: Sequence[Row]) -> str:
    """A line per row; a column that a row does not have is empty."""
    table = [flat(row) for row in rows]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(dict.fromkeys(key for row in table for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return out.getvalue()


def as_table(rows: Sequence[Row], columns: Mapping[str, str]) -> str:
    """Markdown: `columns` are the heads by key of `flat`; what a row does not have is empty."""
    cells = ([_cell(row.get(key)) for key in columns] for row in map(flat, rows))
    lines = [" | ".join(line) for line in (columns.values(), *cells)]
    head, *body = (f"| {line} |" for line in lines)
    return "\n".join([head, f"|{'---|' * len(columns)}", *body])


def page(title: str, command: str, machine: Row, table: str) -> str:
    """A page: what was measured, by which command, on what, and the figures."""
    facts = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in machine.items())
    return f"# {title}\n\n```bash\n{command}\n```\n\nOn: {facts}.\n\n{table}\n"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
