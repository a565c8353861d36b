"""A run over several seeds: one ordinary run per seed in the folder of the whole, and a summary over them.

    <output_path>/<name>/<name>_seed_42/      what a run of one seed writes, byte for byte
    <output_path>/<name>/<name>_seed_43/
    <output_path>/<name>/summary.json         means, deviations and intervals, a function of the runs

Nothing is stored per seed but runs, so each is continued, judged again and compared as any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vhs.config.run import RunConfig
from vhs.errors import RunError
from vhs.files import write_json
from vhs.paths import expanded
from vhs.resolve import ResolvedRun, slices
from vhs.runs.folder import RunFolder
from vhs.runs.forms import Sized

if TYPE_CHECKING:
    from vhs.runs.report.paired import OverSeeds, System


def folder(config: RunConfig) -> Path:
    """The folder of a run, or that of the runs of every seed."""
    return expanded(config.output_path) / config.name


def of_seed(config: RunConfig, seed: int) -> RunConfig:
    """The run of one seed. With `budget_ms` the first seed's run takes its number of candidates by measurement, and the
    others take the same, or the seeds would not be comparable."""
    values = {"name": f"{config.name}_seed_{seed}", "output_path": str(folder(config)), "seed": seed, "seeds": None}
    if config.budget_ms is not None and seed != config.seeds[0]:
        recorded = (RunFolder(of_seed(config, config.seeds[0])).manifest(Sized) or {}).get("config", {})
        if recorded.get("budget_ms") == config.budget_ms:
            values |= {"num_samples": recorded["num_samples"], "budget_ms": None}
    return config.changed(**values)


def of_run(run: ResolvedRun, seed: int) -> ResolvedRun:
    """The same of what a configuration was resolved to; nothing is looked up again."""
    config = of_seed(run.config, seed)
    return replace(run, config=config, slices=slices(config, len(run.prompts), run.process.count))


def runs_of(config: RunConfig) -> list[RunConfig]:
    """The ordinary runs that a configuration means: one per seed, or itself."""
    return [of_seed(config, seed) for seed in config.seeds] if config.seeds else [config]


def require_own_folder(config: RunConfig) -> None:
    """Raises RunError where the folder is a run of one seed."""
    if (folder(config) / "run.json").is_file():
        raise RunError(
            f"{folder(config)}: holds a run of one seed, and seeds puts one folder per seed there; choose another name"
        )


def close(config: RunConfig) -> str:
    """Writes summary.json over the finished runs of every seed; returns the table and its path."""
    from vhs.runs.report.data import read_run
    from vhs.runs.report.paired import System, over_seeds

    system = System(config.name, [read_run(folder(one)) for one in runs_of(config)])
    rates = over_seeds(system)
    file = folder(config) / "summary.json"
    write_json(file, summary(system, rates))
    return f"{as_text(rates)}\n\n{file}"


def summary(system: System, rates: Mapping[str, OverSeeds]) -> dict[str, Any]:
    """The content of summary.json: rates from 0 to 1."""
    run = system.runs[0]
    return {
        "seeds": system.seeds,
        "prompts": len(run.table.prompts),
        "candidates_per_prompt": run.table.num_samples,
        "pick": {name: asdict(one) for name, one in rates.items()},
    }


def as_text(rates: Mapping[str, OverSeeds]) -> str:
    """A row per tag and per overall, in %: mean and deviation over seeds, 95 % interval over prompts and seeds."""
    if not rates:
        return "nothing was judged"
    seeds = len(next(iter(rates.values())).by_seed)
    lines = [f"{'right picks, %':18}{f'{seeds} seeds':>14}  95 %"]
    lines += [f"{name:18}{mean_text(one):>14}  {interval_text(one)}" for name, one in rates.items()]
    return "\n".join(lines)


def mean_text(one: OverSeeds) -> str:
    """`80.5 ± 0.4`, in %; one seed has no deviation."""
    return f"{100 * one.mean:.1f}" + ("" if one.deviation is None else f" ± {100 * one.deviation:.1f}")


def interval_text(one: OverSeeds) -> str:
    """`[77.2, 83.6]`, in %."""
    return f"[{100 * one.low:.1f}, {100 * one.high:.1f}]"
