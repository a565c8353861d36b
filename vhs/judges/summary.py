"""Each judge's tables of a run, from what the pictures' rows keep. Pure functions; no judge is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vhs.geneval.summary import Figure, Outcome, Summary, format_table, summarize
from vhs.judges.base import JudgeSpec, Measures
from vhs.judges.rows import kept
from vhs.records import Prompt

MEAN, PICK, ORACLE = "mean_of_candidates", "pick", "oracle"
Rows = Mapping[int, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class Table:
    """Column (MEAN, PICK, ORACLE) -> figures. `overall`: no prompt is in several rows, so that the mean over prompts is
    one of whole pictures."""

    columns: Mapping[str, Summary]
    overall: bool


Tables = Mapping[str, Table]


def tables(judge: JudgeSpec, prompts: Sequence[Prompt], rows: Rows, winners: Mapping[int, int]) -> Tables:
    """A judge's tables. `rows` has a row per candidate and `winners` the winner, by prompt id.

    Where winners alone were judged there is the column PICK alone. In every table the oracle picks the candidate whose
    values in the judge's first table are the highest on average, the first of equals. Empty where nothing was judged.
    """
    judged = [
        (prompt, [_measures(judge, prompt, row) for row in rows[prompt.id]])
        for prompt in prompts
        if kept(rows[prompt.id][winners[prompt.id]], judge.name) is not None
    ]
    if not judged:
        return {}
    whole = all(one is not None for _, measured in judged for one in measured)
    outcomes: dict[str, dict[str, list[Outcome]]] = {}
    for prompt, measured in judged:
        columns = {PICK: [measured[winners[prompt.id]]]}
        if whole:
            columns = {MEAN: measured, **columns, ORACLE: [max(measured, key=_main_value)]}
        for column, chosen in columns.items():
            for table in chosen[0]:
                outcomes.setdefault(table, {}).setdefault(column, []).extend(_mean(prompt.id, table, chosen))
    return {table: _table(columns, len(judged)) for table, columns in outcomes.items()}


def _table(columns: Mapping[str, Sequence[Outcome]], prompts: int) -> Table:
    found = {name: summarize(outcomes) for name, outcomes in columns.items()}
    return Table(found, found[PICK].over_prompts.prompts == prompts)


def as_json(found: Tables) -> dict[str, Any]:
    """For summary.json: table -> rows and overall -> column -> value, interval and counts, rates from 0 to 1.

    `overall` is the mean over prompts of each prompt's own mean.
    """
    return {
        table: {
            "rows": {
                row: _cells({name: s.tags[row] for name, s in one.columns.items()}) for row in one.columns[PICK].tags
            },
            **({"overall": _cells({name: s.over_prompts for name, s in one.columns.items()})} if one.overall else {}),
        }
        for table, one in found.items()
    }


def as_text(judge: str, found: Tables, titles: Mapping[str, str]) -> str:
    """The tables for a terminal, in % with 95 % intervals over prompts."""
    parts = []
    for table, one in found.items():
        overalls = ("over_prompts",) if one.overall else ()
        text = format_table({titles.get(name, name): s for name, s in one.columns.items()}, overalls)
        parts.append(f"{judge}: {table}\n{text}")
    return "\n\n".join(parts)


def _measures(judge: JudgeSpec, prompt: Prompt, row: Mapping[str, Any]) -> Measures | None:
    fields = kept(row, judge.name)
    return None if fields is None else judge.measures(prompt.record, fields)


def _main_value(measures: Measures) -> float:
    values = [value for _, value in next(iter(measures.values()))]
    return sum(values) / len(values)


def _mean(prompt: int, table: str, pictures: Sequence[Measures]) -> list[Outcome]:
    """A prompt's values in one table, each the mean over pictures."""
    columns = zip(*(one[table] for one in pictures), strict=True)
    return [Outcome(prompt, cells[0][0], sum(value for _, value in cells) / len(cells)) for cells in columns]


def _cells(figures: Mapping[str, Figure]) -> dict[str, Any]:
    values = {name: {"value": one.value, "low": one.low, "high": one.high} for name, one in figures.items()}
    return {"prompts": figures[PICK].prompts, **values}
