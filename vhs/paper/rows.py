"""A row of a table as runs: its configuration in a world, its folders, and how far they have come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vhs.config.run import RunConfig, load_config
from vhs.errors import RunError, VHSError
from vhs.files import read_json
from vhs.paper.published import Published
from vhs.paths import find
from vhs.runs import seeds
from vhs.runs.folder import RunFolder

WORLDS = {"paper": Path("configs/paper"), "tiny": Path("configs/tiny_tables")}
"""Where a world's rows are, one YAML file each, under the names of data/paper_results.yaml."""
SETTLED = {"device", "dtype"}
"""Keys that run.json has as they were settled on the machine."""


@dataclass(frozen=True)
class Row:
    """A row of a table in a world: what the paper has for it, and the runs that make it."""

    published: Published
    file: Path
    config: RunConfig

    @property
    def name(self) -> str:
        """The name of its configuration."""
        return self.published.config

    @property
    def runs(self) -> list[RunConfig]:
        """One per seed."""
        return seeds.runs_of(self.config)

    @property
    def missing(self) -> list[RunConfig]:
        """The runs that are not finished. Raises RunError where a folder holds another run."""
        return [one for one in self.runs if done(one) is None]


def row_of(
    published: Published, world: str, count: int | None, overrides: Sequence[str] = (), **changes: Any
) -> Row | None:
    """A row under `overrides` with the first `count` seeds (None: the file's own); None where the world has none.

    Raises ConfigError for a file that cannot be read.
    """
    file = WORLDS[world] / f"{published.config}.yaml"
    if not find(file).is_file():
        return None
    config = load_config(file, overrides)
    return Row(published, file, config.changed(seeds=first_seeds(config, count), **changes))


def first_seeds(config: RunConfig, count: int | None) -> list[int]:
    """The configuration's seeds, cut to `count` or gone on with from the last."""
    known = list(config.seeds or [config.seed])
    further = range(max(known) + 1, max(known) + 1 + max(0, (count or 0) - len(known)))
    return known[:count] + list(further)


def done(config: RunConfig) -> Path | None:
    """The folder of a finished run, None where it is not finished. Raises RunError where it holds another run."""
    folder = RunFolder(config)
    manifest = folder.manifest()
    if manifest is None:
        return None
    if different := differences(manifest, config):
        raise RunError(
            f"{folder.root}: made with {'; '.join(different[:3])}; move it away, or name another output_path"
        )
    try:
        expected = manifest["prompts"]["count"]
    except (KeyError, TypeError):
        raise RunError(f"{folder.root / 'run.json'}: not the record of a run (prompts is missing)") from None
    return folder.root if all(folder.done(number) for number in range(expected)) else None


def differences(manifest: Mapping[str, Any], config: RunConfig) -> list[str]:
    """What a run's folder was made with where a row asks for something else, as `key: there, here in the table`."""
    there = manifest.get("config", {})
    here = config.model_dump(mode="json")
    keys = set(here) - SETTLED - set(RunConfig.keys_where(results=False))
    return [
        f"{key}: {there.get(key)} where the table's row has {here[key]}"
        for key in sorted(keys)
        if there.get(key, RunConfig.model_fields[key].default) != here[key]
    ]


def blocked(config: RunConfig) -> str | None:
    """Why a run cannot be made as things are (weights that are not here and nowhere on the Hub, a wrong key), or None.

    No network is used: what the Hub may have is not missing.
    """
    from vhs.resolve import resolve

    try:
        run = resolve(config, fetch="nothing")
        for source in run.sources:
            if source.path is None and source.repository is None:
                source.require()
    except VHSError as error:
        return str(error)
    return None


def progress(config: RunConfig) -> str:
    """`12 of 58 prompts` of a run that was begun, else `not begun`."""
    folder = RunFolder(config)
    manifest = read_json(folder.root / "run.json") if (folder.root / "run.json").is_file() else None
    if manifest is None:
        return "not begun"
    expected = manifest["prompts"]["count"]
    return f"{sum(folder.done(number) for number in range(expected))} of {expected} prompts"
