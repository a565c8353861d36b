"""A row of a table as runs: its configuration in a world, its folders, and how far they have come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vhs.config.run import RunConfig, load_config
from vhs.errors import RunError
from vhs.paper.published import Published, Table
from vhs.paths import find
from vhs.runs import seeds
from vhs.runs.folder import RunFolder
from vhs.runs.forms import Manifest

WORLDS = {"paper": Path("configs/paper"), "tiny": Path("configs/tiny_tables")}
"""Where a world's rows are, one YAML file each, under the names of data/paper_results.yaml."""
SINGLE = "main_200_single"
"""The row of the single candidate, whose time the tiny world's budgets are multiples of."""
SINGLE_MS = 200
"""What it takes in the paper."""
SETTLED = {"device", "dtype"}
"""Keys that run.json has as they were settled on the machine."""


@dataclass(frozen=True)
class Row:
    """A row of a table in a world: what the paper has for it, and the configuration whose runs make it.

    `changed` are the words of the command line that make `config` of the file. `multiple` is its budget in times of a
    single candidate where that is how it is stated; `unmeasured`: its number of candidates is not known yet.
    """

    published: Published
    world: str
    config: RunConfig
    changed: tuple[str, ...] = ()
    multiple: float | None = None
    unmeasured: bool = False

    @property
    def file(self) -> Path:
        """Its configuration."""
        return file_of(self.name, self.world)

    @property
    def name(self) -> str:
        """The name of its configuration."""
        return self.published.config

    @property
    def runs(self) -> list[RunConfig]:
        """One per seed."""
        return seeds.runs_of(self.config)

    @property
    def cost(self) -> str:
        """What its time depends on. Rows of one cost have one number of candidates: they differ in how they choose."""
        told = self.config.model_dump_json(exclude={"name", "selection", "tie", "num_samples"})
        return f"{self.multiple} {told}"

    def with_candidates(self, count: int) -> Row:
        """The row with so many candidates."""
        changed = (*self.changed, f"num_samples={count}")
        return replace(self, config=self.config.changed(num_samples=count), changed=changed, unmeasured=False)

    def missing(self) -> list[RunConfig]:
        """The runs that are not finished. Raises RunError where a folder holds another run."""
        return [one for one in self.runs if finished(one) is None]


@dataclass(frozen=True)
class Asked:
    """What the command line says of all rows.

    `seeds`: the first so many seeds (None: the file's own); `overrides`: `key=value`; `measured`: the number of
    candidates is this machine's for the row's budget, not the paper's. The tiny world has no other.
    """

    world: str = "paper"
    seeds: int | None = None
    overrides: tuple[str, ...] = ()
    measured: bool = False


def rows_of(table: Table, asked: Asked) -> list[Row]:
    """The rows of a table that a world has. Raises ConfigError."""
    found = [_row(one, asked) for one in table.rows if find(file_of(one.config, asked.world)).is_file()]
    if asked.world == "tiny":
        return [_in_multiples(row) for row in found]
    return [_at_budget(row) if asked.measured else row for row in found]


def rows_to_run(tables: Sequence[Table], asked: Asked) -> list[Row]:
    """The rows of every table, each once."""
    return list({row.name: row for table in tables for row in rows_of(table, asked)}.values())


def single(asked: Asked) -> Row:
    """The row of the single candidate."""
    return _row(Published(config=SINGLE, row="single candidate", budget_ms=SINGLE_MS, best_of=1), asked)


def file_of(name: str, world: str) -> Path:
    """The file of a row of this name."""
    return WORLDS[world] / f"{name}.yaml"


def _row(published: Published, asked: Asked) -> Row:
    config = load_config(file_of(published.config, asked.world), asked.overrides)
    seeds = first_seeds(config, asked.seeds)
    changed = (*asked.overrides, *([f"seeds={seeds}"] if seeds != config.seeds else []))
    return Row(published, asked.world, config.changed(seeds=seeds), changed)


def first_seeds(config: RunConfig, count: int | None) -> list[int]:
    """The configuration's seeds, cut to `count` or gone on with from the largest."""
    known = list(config.seeds or [config.seed])
    further = range(max(known) + 1, max(known) + 1 + max(0, (count or 0) - len(known)))
    return known[:count] + list(further)


def _chooses(row: Row) -> bool:
    """Its budget buys candidates: not a single one, nor as many as a curve wants."""
    return row.config.latent_verifier and row.published.best_of != 1 and row.published.budget_ms is not None


def _at_budget(row: Row) -> Row:
    """The row with the number of candidates that fits its budget here."""
    if not _chooses(row):
        return row
    budget = float(row.published.budget_ms)
    changed = (*row.changed, f"budget_ms={budget}")
    return replace(row, config=row.config.changed(budget_ms=budget), changed=changed)


def _in_multiples(row: Row) -> Row:
    """The row with its budget in times of a single candidate, and with the number of candidates that its first seed's
    run was begun with."""
    if not _chooses(row):
        return row
    multiple = row.published.budget_ms / SINGLE_MS
    manifest = RunFolder(row.runs[0]).manifest(Manifest)
    if manifest is None:
        return replace(row, multiple=multiple, unmeasured=True)
    return replace(row.with_candidates(manifest["config"]["num_samples"]), multiple=multiple)


def finished(config: RunConfig) -> Path | None:
    """The folder of a finished run, None where it is not finished. Raises RunError where it holds another run."""
    folder = RunFolder(config)
    manifest = folder.manifest(Manifest)
    if manifest is None:
        return None
    if different := differences(manifest, config):
        raise RunError(
            f"{folder.root}: made with {'; '.join(different[:3])}; move it away, or give another output_path"
        )
    whole = (
        all(folder.done(number) for number in range(manifest["prompts"]["count"]))
        and (folder.root / "summary.json").is_file()
    )
    return folder.root if whole else None


def differences(manifest: Mapping[str, Any], config: RunConfig) -> list[str]:
    """What a run was made with where a row asks for something else; a key that it did not know
    yet does not count."""
    there, here = manifest.get("config", {}), config.model_dump(mode="json")
    keys = set(here) - SETTLED - set(RunConfig.keys_where(results=False))
    if config.budget_ms is not None:
        keys = keys - {"num_samples"} | {"budget_ms"}
    return [
        f"{key} {there[key]} where the row has {here[key]}"
        for key in sorted(keys)
        if key in there and there[key] != here[key]
    ]
