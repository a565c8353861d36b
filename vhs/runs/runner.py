"""A run over many prompts: every prompt once, in any number of processes, interrupted and continued at will."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vhs import resolve as parts
from vhs.best_of_n import BestOfN
from vhs.config.run import RunConfig
from vhs.errors import RunError
from vhs.files import read_json, write_json
from vhs.paths import find
from vhs.pictures import decode
from vhs.processes import Process, current_process
from vhs.prompts import read_prompts
from vhs.records import Prompt
from vhs.runs import manifest
from vhs.runs.finish import finish
from vhs.runs.folder import RunFolder, changed_keys
from vhs.runs.sources import Generated, Made, Saved
from vhs.seeding import published_order
from vhs.stages import StageTimes

if TYPE_CHECKING:
    from vhs.geneval.evaluate import GenEval

JUDGE_KEYS = {
    "segmentation_ckpt_path",
    "segmentation_config_path",
    "detector",
    "object_names",
    "detector_size",
    "color_classifier",
    "dataset",
}
"""What may differ when a run's pictures are judged again."""
Say = Callable[[str], None]


@dataclass
class Job:
    """A run as this process sees it: `todo` are the prompts of its own slice, in its order."""

    config: RunConfig
    prompts: list[Prompt]
    order: list[list[int]]
    shard: Process
    folder: RunFolder
    silent: str | None

    @property
    def todo(self) -> list[Prompt]:
        return [self.prompts[index] for index in self.order[self.shard.index]]

    @property
    def again(self) -> bool:
        """The run's own pictures are judged again."""
        return self.config.re_eval and not self.config.imgs_path


def run(config: RunConfig, say: Say = print, bar: bool = True) -> str:
    """Generates, chooses, saves and judges; returns the closing table and the places of what was written.

    `say` gets one line at a time. Raises a VHSError before any model loads where that can be known, KeyboardInterrupt
    when interrupted; what is finished by then stays, and `cont: true` goes on from there.
    """
    shard = current_process()
    config = parts.on_device(config, shard)
    job = plan(config, shard)
    say = say if shard.first else lambda line: None
    settled = parts.settle(config, shard)
    parts.check(settled)
    now = manifest.describe(config, job.prompts, job.silent, shard)
    former = _former(job, now, say)
    if job.silent:
        say(f"GenEval does not run: {job.silent}")
    shard.wait()
    times = StageTimes(_waiter(config))
    source, judge = _load(job, settled, times)
    if shard.first:
        _open(job, former, now | {"checkpoints": parts.checkpoint_hashes(settled)})
    shard.wait()
    _work(job, source, judge, times, bar)
    shard.wait()
    return finish(job.folder, job.prompts, job.order) if shard.first else ""


def plan(config: RunConfig, shard: Process = Process()) -> Job:
    """Reads and checks the prompts and cuts them into slices; loads nothing."""
    silent = silent_because(config)
    prompts = read_prompts(find(config.annotation), None if silent else _metadata_check(config))
    if silent is None and not any(prompt.judged for prompt in prompts):
        silent = f"no prompt in {config.annotation} has GenEval's metadata; pictures are made and scored"
    if config.noise == "published":
        order = [published_order(config.seed, len(prompts), index, shard.count) for index in range(shard.count)]
    else:
        order = [shard.of(range(len(prompts)), index) for index in range(shard.count)]
    return Job(config, prompts, order, shard, RunFolder(config), silent)


def _metadata_check(config: RunConfig) -> Callable[[Mapping[str, Any], str], None]:
    """What refuses a record that GenEval cannot judge with the detector's classes."""
    from vhs.geneval.metadata import check_metadata, read_names

    names = read_names(find(config.object_names))
    return lambda record, where: check_metadata(record, names, where)


def silent_because(config: RunConfig) -> str | None:
    """Why GenEval does not run under this configuration; None where it does."""
    if config.dataset != "geneval":
        return f"dataset is {config.dataset}"
    if config.segmentation_ckpt_path is None:
        return "the configuration names no detector (segmentation_ckpt_path)"
    return None


def _former(job: Job, now: dict[str, Any], say: Say) -> dict[str, Any] | None:
    """The manifest of the run to go on with, None for a fresh start. Raises RunError for another run's folder."""
    former, config, folder = job.folder.manifest(), job.config, job.folder
    if former is None and folder.pictures.exists() and any(folder.pictures.iterdir()):
        raise RunError(
            f"{folder.root}: holds pictures but no run.json, so it is no run of this project; choose another name"
        )
    if job.again and former is None:
        raise RunError(f"{folder.root}: re_eval has no run to judge again; run it first, with re_eval: false")
    if former is None:
        return None
    if not config.cont and not job.again:
        done = sum(folder.done(prompt.id) for prompt in job.prompts)
        state = (
            "a finished run" if (folder.root / "summary.json").is_file() else f"an unfinished run ({done} prompts done)"
        )
        say(f"{folder.root} holds {state}; cont is false: starting over")
        return None
    _require_same(job, former, now)
    return former


def _require_same(job: Job, former: dict[str, Any], now: dict[str, Any]) -> None:
    if differences := changed_keys(former, now, JUDGE_KEYS if job.again else ()):
        raise RunError(
            f"{job.folder.root}: made by another run ({'; '.join(differences[:3])}); give this one another name, "
            "or cont: false to start over"
        )


def _open(job: Job, former: dict[str, Any] | None, now: dict[str, Any]) -> None:
    """Makes the folder ready: run.json comes first, and a continued run must have the same checkpoints."""
    job.folder.clean()
    if former is None:
        job.folder.remove()
    else:
        _require_same(job, former, now)
    if former is None or job.again:
        write_json(job.folder.root / "run.json", now)


def _load(job: Job, settled: RunConfig, times: StageTimes) -> tuple[Callable[[Prompt], Made], GenEval | None]:
    """(source of candidates, judge or None)."""
    verifier = parts.load_verifier(settled)
    if settled.imgs_path or settled.re_eval:
        source = Saved(settled, job.folder, verifier, times)
    else:
        best = BestOfN.of(settled, parts.load_generator(settled), verifier)
        best.times = times
        source = Generated(best, settled, len(job.prompts), job.shard)
    return source, None if job.silent else parts.load_judge(settled)


def _work(job: Job, source: Callable[[Prompt], Made], judge: GenEval | None, times: StageTimes, bar: bool) -> None:
    from tqdm import tqdm

    left = [prompt for prompt in job.todo if job.again or not job.folder.done(prompt.id)]
    progress = tqdm(
        left,
        total=len(job.todo),
        initial=len(job.todo) - len(left),
        unit="prompt",
        desc=job.config.name,
        disable=not (bar and job.shard.first),
        dynamic_ncols=True,
    )
    timings: dict[str, Any] = {}
    try:
        for prompt in progress:
            times.stages.clear()
            made = source(prompt)
            rows = _rows(job, prompt, made, judge, times)
            with times.stage("save", 0):
                job.folder.write_prompt(prompt, made.winner, made.files, rows)
            timings[f"{prompt.id:05d}"] = times.as_dict()
    finally:
        if timings:
            _keep_timings(job, timings)


def _rows(job: Job, prompt: Prompt, made: Made, judge: GenEval | None, times: StageTimes) -> list[dict[str, Any]]:
    """One record a candidate: the release's keys, and GenEval's verdict on those that have a picture."""
    rows = []
    for index, said in enumerate(made.answers):
        place = job.folder.picture(prompt.id, index)
        rows.append(
            {
                "correct_verifier": said["correct_verifier"],
                "score": said["score"],
                "prompt": prompt.text,
                "gen_idx_gt": index,
                "filename": str(place),
                "p_yes": said["p_yes"],
                "p_no": said["p_no"],
            }
        )
    if judge is None or not prompt.judged:
        return rows
    with times.stage("judge", len(made.files)):
        pictures = [decode(data, str(job.folder.picture(prompt.id, index))) for index, data in made.files.items()]
        verdicts = judge.judge_batch(pictures, [prompt.metadata] * len(pictures))
    for index, verdict in zip(made.files, verdicts, strict=True):
        rows[index] |= {"tag": prompt.metadata["tag"], "correct": verdict.correct, "reason": verdict.reason}
    return rows


def _keep_timings(job: Job, timings: dict[str, Any]) -> None:
    """Adds this process's prompts to what earlier ones measured; the report merges the processes."""
    file = job.folder.root / f".timings_{job.shard.index}.json"
    before = read_json(file) if file.is_file() else {}
    write_json(file, {**before, **timings})


def _waiter(config: RunConfig) -> Callable[[], None] | None:
    """Blocks until a GPU has done what it was given, where `intermediate_benchmarking` asks for exact stages."""
    if not config.intermediate_benchmarking or not config.device.startswith("cuda"):
        return None
    import torch

    return lambda: torch.cuda.synchronize(config.device)
