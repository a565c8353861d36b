"""A run over many prompts: every prompt once, in any number of processes, interrupted and continued at will."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from vhs.config.run import RunConfig
from vhs.errors import ConfigError
from vhs.files import read_form, write_json
from vhs.folders import locked
from vhs.processes import current_process
from vhs.records import Prompt
from vhs.resolve import LoadedModels, ResolvedRun, resolve
from vhs.runs import seeds
from vhs.runs.budget import within_budget
from vhs.runs.finish import finish
from vhs.runs.folder import RunFolder
from vhs.runs.forms import Stages
from vhs.runs.manifest import describe
from vhs.runs.opening import adopt, close_folder, decide, open_folder, recover
from vhs.runs.ray_workers import ray_workers, require_ray
from vhs.runs.work import Made, Worker
from vhs.stages import StageTimes, total

if TYPE_CHECKING:
    from tqdm import tqdm

Say = Callable[[str], None]
Work = Callable[[Sequence[Prompt]], Iterable[Made]]


def run(config: RunConfig, say: Say = print, bar: bool = True) -> str:
    """Generates, chooses, saves and judges; returns the closing table and the places of what was written.

    `say` gets one line at a time. Raises a VHSError before any model loads where that can be known, KeyboardInterrupt
    when interrupted; what is finished by then stays, and `cont: true` goes on from there. With `seeds` that is one run
    after the other, and a table over all of them.
    """
    return carry_out(resolve(config, current_process(config.timeout)), say, bar)


def run_each(configs: Sequence[RunConfig], say: Say = print, bar: bool = True) -> Iterator[str]:
    """`run` of each configuration, one after the other in the same processes, which load libraries once.

    All are resolved first, so that a mistake in the last is found before the first begins.
    """
    places = Counter(RunFolder(config).root.resolve() for config in configs)
    for place, count in places.items():
        if count > 1:
            raise ConfigError(f"name: {count} of the configurations write into {place}; give each a name of its own")
    resolved = [resolve(config, current_process(config.timeout)) for config in configs]
    return (carry_out(run, say, bar) for run in resolved)


def carry_out(run: ResolvedRun, say: Say, bar: bool) -> str:
    """`run`, of what a configuration was resolved to."""
    if run.config.seeds:
        return _over_seeds(run, say, bar)
    process, folder = run.process, RunFolder(run.config)
    if run.config.launcher == "ray":
        require_ray(run)
    with locked(folder.root) if process.first else nullcontext():
        if process.first:
            recover(folder)
        process.wait()
        say, models = say if process.first else lambda line: None, None
        if run.config.budget_ms is not None:
            run, models = within_budget(run, folder, say)
            folder = RunFolder(run.config)
        return _run(run, folder, models, say, bar)


def _over_seeds(run: ResolvedRun, say: Say, bar: bool) -> str:
    """One run per seed; returns the table over all of them."""
    seeds.require_own_folder(run.config)
    for seed in run.config.seeds:
        if closing := carry_out(seeds.of_run(run, seed), say, bar):
            say(closing)
    return seeds.close(run.config) if run.process.first else ""


def _run(run: ResolvedRun, folder: RunFolder, models: LoadedModels | None, say: Say, bar: bool) -> str:
    """The run in a folder that is this command's alone; `models` where they are loaded already."""
    process, manifest = run.process, describe(run)
    opening = decide(run, folder, manifest)
    if opening == "done":
        say(f"{folder.root}: already done; overwrite: true makes it again")
        return _finished(run, folder)
    if run.judge_skipped:
        say(f"GenEval does not run: {run.judge_skipped}")
    process.wait()
    work = Worker(run, folder, models).over if run.config.launcher == "processes" else ray_workers(run)
    if process.first:
        open_folder(opening, folder, manifest)
    process.wait()
    target = folder.draft if opening == "judge again" else folder
    timings: dict[str, Any] = {}
    try:
        with _progress(run, target, work, bar) as prompts:
            for made in prompts:
                saving = StageTimes()
                with saving.stage("save", 0):
                    target.write_prompt(made.prompt, made.winner, made.files, made.rows, made.objects)
                timings[f"{made.prompt.id:05d}"] = total([made.stages, saving.as_dict()])
    finally:
        if opening != "judge again":  # what it took to make the candidates stays
            _keep_timings(folder, process.index, timings)
    process.wait()
    if opening == "judge again" and process.first:
        adopt(folder, manifest)
    return _finished(run, folder)


def _finished(run: ResolvedRun, folder: RunFolder) -> str:
    """Closes the run, in the first process; a function of what is on disk, so it may be done again."""
    if not run.process.first:
        return ""
    closing = finish(folder, run.prompts, run.slices, run.judges)
    close_folder(folder)
    return closing


def _progress(run: ResolvedRun, folder: RunFolder, work: Work, bar: bool) -> tqdm[Made]:
    """What is made of this process's prompts that are not done yet, under a progress bar."""
    from tqdm import tqdm

    left = [prompt for prompt in run.mine if not folder.done(prompt.id)]
    return tqdm(
        work(left),
        total=len(run.mine),
        initial=len(run.mine) - len(left),
        unit="prompt",
        desc=run.config.name,
        disable=not (bar and run.process.first),
        dynamic_ncols=True,
    )


def _keep_timings(folder: RunFolder, process: int, timings: dict[str, Any]) -> None:
    """Adds this process's prompts to what earlier ones measured; `finish` merges the processes."""
    if not timings:
        return
    file = folder.root / f".timings_{process}.json"
    before = read_form(file, Stages) if file.is_file() else {}
    write_json(file, {**before, **timings})
