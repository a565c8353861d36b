"""The paper's figures and which configuration makes each of its rows: data/paper_results.yaml, read and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from vhs.config.yamlfile import nearest
from vhs.errors import ConfigError
from vhs.paths import find
from vhs.runs.report.paired import OVER_PROMPTS, OVER_TAGS

FILE = Path("data/paper_results.yaml")
COLUMNS = {
    "single_object": "single",
    "two_object": "two",
    "counting": "counting",
    "colors": "color",
    "position": "position",
    "color_attr": "attribution",
    OVER_TAGS: None,
    OVER_PROMPTS: "overall",
}
"""A table's columns as GenEval's tags and the two means, and what the paper calls them; it prints one mean alone."""


class Published(BaseModel):
    """One row of a table. `paper` has its figures in percent, by the paper's names; `best_of` and `budget_ms` are
    None where the paper does not say."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: str
    row: str
    budget_ms: int | None = None
    best_of: int | None = None
    note: str = ""
    paper: Mapping[str, float] = {}

    def figure(self, column: str) -> float | None:
        """The paper's figure in a column, in percent. Its mean over tags is the mean of its six tags."""
        if column != OVER_TAGS:
            return self.paper.get(COLUMNS.get(column) or "")
        tags = [self.paper.get(name) for tag, name in COLUMNS.items() if tag not in (OVER_TAGS, OVER_PROMPTS)]
        return sum(tags) / len(tags) if None not in tags else None


class _Rows(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    source: str
    rows: Sequence[Published]


@dataclass(frozen=True)
class Table:
    """A table of the paper, or some of its rows."""

    name: str
    title: str
    source: str
    rows: Sequence[Published]


def read_tables(file: str | Path = FILE) -> dict[str, Table]:
    """Every table by name. Raises ConfigError in one line where the file is not of this form."""
    try:
        values = yaml.safe_load(find(file).read_text(encoding="utf-8"))
        tables = {name: _Rows(**one) for name, one in values["tables"].items()}
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}); it comes with the project") from None
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise ConfigError(f"{file}: {where}: {problem['msg'].lower()}; a row has config, row and paper") from None
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):
        raise ConfigError(f"{file}: not a file of tables; it holds tables: {{name: {{title, source, rows}}}}") from None
    for name, table in tables.items():
        for row in table.rows:
            if unknown := sorted(row.paper.keys() - set(COLUMNS.values())):
                known = ", ".join(one for one in COLUMNS.values() if one)
                raise ConfigError(f"{file}: {name}: {row.config}: {unknown[0]} is no column; one of {known}")
    return {name: Table(name, one.title, one.source, one.rows) for name, one in tables.items()}


def choose(name: str, rows: Sequence[str], tables: Mapping[str, Table]) -> list[Table]:
    """The table of this name, or every one for `all`; of `rows`, where there are any, those rows alone.

    Raises ConfigError with the nearest names for a table or a row that is none.
    """
    if name != "all" and name not in tables:
        near = nearest(name, tables) or f"; there are {', '.join(tables)} and all"
        raise ConfigError(f"--table: no table {name!r}{near}")
    chosen = list(tables.values()) if name == "all" else [tables[name]]
    known = [row.config for table in chosen for row in table.rows]
    for one in rows:
        if one not in known:
            near = nearest(one, known) or f"; there are {', '.join(dict.fromkeys(known))}"
            raise ConfigError(f"--rows: {name} has no row {one!r}{near}")
    kept = [replace(table, rows=[row for row in table.rows if not rows or row.config in rows]) for table in chosen]
    return [table for table in kept if table.rows]
