"""`budget_ms`: a run whose number of candidates follows from the time that a prompt may take on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from vhs.best_of_n import BestOfN
from vhs.errors import ConfigError
from vhs.measure.budget import fit
from vhs.resolve import LoadedModels, ResolvedRun
from vhs.runs.folder import RunFolder
from vhs.runs.forms import Sized


def within_budget(
    run: ResolvedRun, folder: RunFolder, say: Callable[[str], None]
) -> tuple[ResolvedRun, LoadedModels | None]:
    """The run with the largest `num_samples` that fits `budget_ms`, and the models that were loaded to measure it.

    A run that has begun in the folder keeps its number of candidates. The first process measures for all. Raises
    ConfigError where no candidate fits.
    """
    config = run.config
    recorded = (folder.manifest(Sized) or {}).get("config", {})
    if recorded.get("budget_ms") == config.budget_ms and not config.overwrite:
        return replace(run, config=config.changed(num_samples=recorded["num_samples"])), None
    models, found = run.models.load(), None
    if run.process.first:
        method = BestOfN.of(config.changed(generation_mode="prod"), *models)
        found = fit(method, run.prompts[0], config.budget_ms)
        if not found.num_samples:
            raise ConfigError(
                f"budget_ms: {config.budget_ms:g}, but a single candidate takes {found.one_ms:.1f} ms here, from the "
                f"text to the decoded picture; {int(found.one_ms) + 1} or more is needed"
            )
        say(
            f"budget_ms: {config.budget_ms:g} buys {found.num_samples} candidates here ({found.milliseconds:.0f} ms; "
            f"one takes {found.one_ms:.0f} ms)"
        )
    count = run.process.agreed(found and found.num_samples)
    return replace(run, config=config.changed(num_samples=count)), models
