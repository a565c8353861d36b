"""A table's cells from its runs' folders: means and deviations over seeds, intervals, the paper's figures beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vhs.errors import RunError
from vhs.paper.published import COLUMNS, Published, Table
from vhs.paper.rows import Row, finished
from vhs.runs.report.data import RunData, read_run
from vhs.runs.report.paired import OverSeeds, System, common_prompts, over_seeds


@dataclass(frozen=True)
class Cell:
    """One figure: this project's over its seeds (rates from 0 to 1), and the paper's in percent (None: it has none)."""

    ours: OverSeeds
    published: float | None

    @property
    def difference(self) -> float | None:
        """Ours less the paper's, in points."""
        return None if self.published is None else 100 * self.ours.mean - self.published

    @property
    def excluded(self) -> bool:
        """The paper's figure lies outside of our 95 % interval, by more than the digit that it was rounded to."""
        if self.published is None:
            return False
        return not 100 * self.ours.low - 0.05 <= self.published <= 100 * self.ours.high + 0.05


@dataclass(frozen=True)
class Line:
    """A row that was run. `num_samples` is its N, `budget` words for its time."""

    row: Row
    num_samples: int
    budget: str
    seeds: Sequence[int]
    cells: Mapping[str, Cell]


@dataclass(frozen=True)
class Built:
    """A table as far as its runs are there.

    `missing` are the rows with a run that is not finished, `absent` those that the world does not have. `compared`
    says whether the paper's figures stand beside ours.
    """

    table: Table
    lines: Sequence[Line]
    missing: Sequence[Row]
    absent: Sequence[Published]
    prompts: int
    compared: bool

    @property
    def without_figure(self) -> list[str]:
        """Rows that were run and for which the data file has no figure at all."""
        return [line.row.name for line in self.lines if not line.row.published.paper] if self.compared else []


def build(table: Table, rows: Sequence[Row], compared: bool) -> Built:
    """The table from the folders of `rows`, those whose runs are all finished. Raises RunError for a folder that is
    another run's, whose picks were not judged, or for runs over different prompts; and where no row is finished."""
    whole = {row.name: [read_run(folder) for folder in _folders(row)] for row in rows if not row.missing()}
    missing = [row for row in rows if row.name not in whole]
    here = {row.name for row in rows}
    absent = [published for published in table.rows if published.config not in here]
    if not whole:
        raise RunError(
            f"{table.name}: no row of it has been run (the first would be {rows[0].runs[0].output_path}); --plan says "
            "what that takes, --run does it"
            if rows
            else f"{table.name}: this world has none of its rows"
        )
    prompts = common_prompts([run for runs in whole.values() for run in runs])
    lines = [_line(row, whole[row.name], compared) for row in rows if row.name in whole]
    return Built(table, lines, missing, absent, len(prompts), compared)


def build_all(tables: Sequence[tuple[Table, Sequence[Row]]], compared: bool) -> list[Built]:
    """Every table of which a row was run. Raises RunError as `build`, and where none was."""
    some = [(table, rows) for table, rows in tables if any(not row.missing() for row in rows)]
    return [build(table, rows, compared) for table, rows in some or tables]


def _folders(row: Row) -> list[Path]:
    return [folder for one in row.runs if (folder := finished(one)) is not None]


def _line(row: Row, runs: Sequence[RunData], compared: bool) -> Line:
    rates = over_seeds(System(row.name, runs))
    if lacking := [column for column in COLUMNS if column not in rates]:
        what = "no pick has a verdict of GenEval" if len(lacking) == len(COLUMNS) else f"no prompt is of {lacking[0]}"
        raise RunError(
            f"{runs[0].root}: {what}, which a table needs; judge prompts of all six tags (segmentation_ckpt_path, "
            "re_eval=true)"
        )
    for run in runs:
        _require_verdicts(run)
    cells = {column: Cell(rates[column], row.published.figure(column) if compared else None) for column in COLUMNS}
    return Line(row, runs[0].table.num_samples, budget_words(row), [run.config["seed"] for run in runs], cells)


def _require_verdicts(run: RunData) -> None:
    """Raises RunError where GenEval could judge a pick and has not: a mean over the others is of other prompts."""
    table = run.table
    for prompt in table.prompts:
        if prompt.judged and "correct" not in table.rows[prompt.id][table.winners[prompt.id]]:
            raise RunError(
                f"{run.root}: the pick of prompt {prompt.id} has no verdict of GenEval, which a table needs; judge the "
                "run again with re_eval=true"
            )


def budget_words(row: Row) -> str:
    """A row's budget: `1,100 ms`, or `5.5 x single` in the tiny world; empty for a curve."""
    if row.multiple is not None:
        return f"{row.multiple:g} x single"
    published = row.published.budget_ms
    return f"{published:,} ms" if published and row.world == "paper" else ""
