"""A built table as text, Markdown, LaTeX and CSV: three lines per row, ours, its interval, and the paper's."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence

from vhs.paper.build import Built, Cell, Line
from vhs.paper.published import COLUMNS
from vhs.runs.report.compare_tables import aligned, markdown_table, markdown_text, tabular
from vhs.runs.seeds import interval_text, mean_text

HEAD = ("GenEval, %", "N", "budget", *COLUMNS)
MARK = "*"


def rendered(built: Sequence[Built], fmt: str) -> str:
    """The tables in a format of FORMATS, one after the other."""
    write: Callable[[Built], str] = {"txt": as_text, "md": as_markdown, "tex": as_latex}.get(fmt)
    return as_csv(built) if fmt == "csv" else "\n".join(write(one) for one in built)


def as_text(built: Built) -> str:
    """For a terminal."""
    return "\n\n".join([title(built), aligned(table(built)), *notes(built)]) + "\n"


def as_markdown(built: Built) -> str:
    """A heading, the table and what stands under it."""
    under = [markdown_text(note) for note in notes(built)]
    return "\n\n".join([f"## {markdown_text(title(built))}", markdown_table(table(built)), *under]) + "\n"


def as_latex(built: Built) -> str:
    """A tabular that needs booktabs."""
    comments = [f"% {line}" for line in (title(built), *notes(built))]
    per_row = len(lines_of(built.lines[0], built.compared))
    return "\n".join([*comments, tabular(table(built), rules=per_row)]) + "\n"


def as_csv(built: Sequence[Built]) -> str:
    """A line per table, row and column: ours from 0 to 1, the paper's in percent, the difference in points."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    head = ("table", "config", "row", "N", "budget", "seeds", "column", "mean", "deviation", "low", "high")
    writer.writerow([*head, "published", "difference", "excluded"])
    for one in built:
        for line in one.lines:
            start = [one.table.name, line.row.name, line.row.published.row, line.num_samples, line.budget]
            for column, cell in line.cells.items():
                ours = cell.ours
                figures = [ours.mean, _blank(ours.deviation), ours.low, ours.high]
                paper = [_blank(cell.published), _blank(cell.difference), cell.excluded]
                writer.writerow([*start, " ".join(map(str, line.seeds)), column, *figures, *paper])
    return out.getvalue()


def title(built: Built) -> str:
    """What the table shows and over what."""
    seeds = sorted({len(line.seeds) for line in built.lines})
    count = " or ".join(map(str, seeds))
    return f"{built.table.title} ({built.prompts} prompts, {count} seed{'s' * (seeds != [1])})"


def table(built: Built) -> list[list[str]]:
    """Header and rows."""
    return [list(HEAD), *(one for line in built.lines for one in lines_of(line, built.compared))]


def lines_of(line: Line, compared: bool) -> list[list[str]]:
    """A row's lines."""
    cells = line.cells.values()
    ours = [line.row.published.row, str(line.num_samples), line.budget, *(mean_text(cell.ours) for cell in cells)]
    found = [ours, ["", "", "95 %", *(interval_text(cell.ours) for cell in cells)]]
    if compared:
        paper_n = line.row.published.best_of
        found.append(["", str(paper_n or ""), "paper", *map(_published, cells)])
    return found


def notes(built: Built) -> list[str]:
    """How to read the table, and what is not in it."""
    several = any(len(line.seeds) > 1 for line in built.lines)
    text = "Mean and standard deviation over seeds; intervals over prompts within tags and seeds." if several else (
        "One seed; intervals over prompts within tags."
    )  # fmt: skip
    if built.compared:
        text += (
            f" Under it the paper's figure and ours less the paper's; {MARK}: the interval excludes the paper's. Its "
            "mean over tags is that of its six columns."
        )
    found = [text]
    if built.without_figure:
        found.append(f"data/paper_results.yaml has no figure for {', '.join(built.without_figure)}.")
    if built.missing:
        found.append(f"Not run yet: {', '.join(row.name for row in built.missing)} (--plan says what they take).")
    if built.absent:
        found.append(f"This world has no {', '.join(published.config for published in built.absent)}.")
    return found


def _published(cell: Cell) -> str:
    if cell.published is None:
        return ""
    difference = round(cell.difference, 1) + 0.0  # + 0.0: no "-0.0"
    return f"{cell.published:.1f} ({difference:+.1f}){MARK * cell.excluded}"


def _blank(value: float | None) -> float | str:
    return "" if value is None else value
