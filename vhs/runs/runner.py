"""A run over many prompts: every prompt once, in any number of processes, interrupted and continued at will."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from vhs.best_of_n import BestOfN
from vhs.config.run import JudgeKeys, RunConfig
from vhs.errors import RunError
from vhs.files import read_json, write_json
from vhs.judges.rows import keep
from vhs.pictures import decode
from vhs.processes import current_process
from vhs.records import Prompt
from vhs.resolve import ResolvedRun, resolve
from vhs.runs.finish import finish
from vhs.runs.folder import RunFolder, changed_keys
from vhs.runs.manifest import describe
from vhs.runs.sources import Generated, PromptOutcome, Saved
from vhs.stages import StageTimes

if TYPE_CHECKING:
    from vhs.judges.base import Judge, JudgeSpec

REJUDGED = ("dataset", "judge", "judge_model", "registry", *JudgeKeys.model_fields)
"""Keys that may differ when a run's pictures are judged again."""

Say = Callable[[str], None]


def run(config: RunConfig, say: Say = print, bar: bool = True) -> str:
    """Generates, chooses, saves and judges; returns the closing table and the places of what was written.

    `say` gets one line at a time. Raises a VHSError before any model loads where that can be known, KeyboardInterrupt
    when interrupted; what is finished by then stays, and `cont: true` goes on from there.
    """
    process = current_process()
    say = say if process.first else lambda line: None
    run = resolve(config, process)
    folder, manifest = RunFolder(config), describe(run)
    former = _former(run, folder, manifest, say)
    if run.judge_skipped:
        say(f"GenEval does not run: {run.judge_skipped}")
    process.wait()
    times = StageTimes(_device_wait(run))
    verifier = run.models.load_verifier()
    if config.generates:
        models = run.models.load_generator(), verifier, run.models.load_reranker()
        source = Generated(BestOfN.of(config, *models, times=times), run)
    else:
        source = Saved(run, folder, verifier, times)
    judges = [(spec, spec.load()) for spec in run.judges]
    if process.first:
        _open(run, folder, former, manifest)
    process.wait()
    timings: dict[str, Any] = {}
    try:
        for prompt in _progress(run, folder, bar):
            times.stages.clear()
            outcome = source(prompt)
            rows, objects = _rows(folder, prompt, outcome, judges, times)
            with times.stage("save", 0):
                folder.write_prompt(prompt, outcome.picks[0], outcome.files, rows, objects)
            timings[f"{prompt.id:05d}"] = times.as_dict()
    finally:
        _keep_timings(folder, process.index, timings)
    process.wait()
    return finish(folder, run.prompts, run.slices, run.judges) if process.first else ""


def _former(run: ResolvedRun, folder: RunFolder, now: dict[str, Any], say: Say) -> dict[str, Any] | None:
    """The manifest of the run to go on with, None for a fresh start. Raises RunError for another run's folder."""
    former = folder.manifest()
    if former is None and folder.pictures.exists() and any(folder.pictures.iterdir()):
        raise RunError(
            f"{folder.root}: holds pictures but no run.json, so it is no run of this project; choose another name"
        )
    if run.rejudges and former is None:
        raise RunError(f"{folder.root}: re_eval has no run to judge again; run it first, with re_eval: false")
    if former is None:
        return None
    if not run.config.cont and not run.rejudges:
        done = sum(folder.done(prompt.id) for prompt in run.prompts)
        finished = (folder.root / "summary.json").is_file()
        state = "a finished run" if finished else f"an unfinished run ({done} prompts done)"
        say(f"{folder.root} holds {state}; cont is false: starting over")
        return None
    if differences := changed_keys(former, now, REJUDGED if run.rejudges else ()):
        raise RunError(
            f"{folder.root}: made by another run ({'; '.join(differences[:3])}); give this one another name, "
            "or cont: false to start over"
        )
    return former


def _open(run: ResolvedRun, folder: RunFolder, former: dict[str, Any] | None, manifest: dict[str, Any]) -> None:
    """Makes the folder ready; run.json comes first."""
    folder.clean()
    if former is None:
        folder.remove()
    if former is None or run.rejudges:
        write_json(folder.root / "run.json", manifest)


def _progress(run: ResolvedRun, folder: RunFolder, bar: bool) -> Iterable[Prompt]:
    """This process's prompts that are not done yet, under a progress bar."""
    from tqdm import tqdm

    left = [prompt for prompt in run.mine if run.rejudges or not folder.done(prompt.id)]
    return tqdm(
        left,
        total=len(run.mine),
        initial=len(run.mine) - len(left),
        unit="prompt",
        desc=run.config.name,
        disable=not (bar and run.process.first),
        dynamic_ncols=True,
    )


def _rows(
    folder: RunFolder,
    prompt: Prompt,
    outcome: PromptOutcome,
    judges: Sequence[tuple[JudgeSpec, Judge]],
    times: StageTimes,
) -> tuple[list[dict[str, Any]], dict[int, list[dict[str, Any]]]]:
    """(one record per candidate: the release's keys, and the judgements of those that have a picture; the objects that
    GenEval counted, by candidate).

    GenEval's verdict lies in the row itself, as in the release; every other judge has its own place in `judges`.
    """
    rows, objects = [], {}
    for index, said in enumerate(outcome.answers):
        rows.append(
            {
                "correct_verifier": said["correct_verifier"],
                "score": said["score"],
                "prompt": prompt.text,
                "gen_idx_gt": index,
                "filename": str(folder.picture(prompt.id, index)),
                "p_yes": said["p_yes"],
                "p_no": said["p_no"],
                **{name: said[name] for name in ("rerank_score",) if name in said},
                **({"pick": _place(outcome.picks, index)} if folder.config.rule.k > 1 else {}),
            }
        )
    asked = [(spec, judge) for spec, judge in judges if spec.judges(prompt.record)]
    if not asked:
        return rows, objects
    with times.stage("judge", len(outcome.files)):
        # What is judged is what was saved, decoded again: a JPEG's losses count, and judging the folder later, with
        # re_eval or geneval.py, gives the same verdicts.
        pictures = [decode(data, str(folder.picture(prompt.id, index))) for index, data in outcome.files.items()]
        for spec, judge in asked:
            judgements = judge.judge_batch(pictures, [prompt.record] * len(pictures))
            for index, judgement in zip(outcome.files, judgements, strict=True):
                keep(rows[index], spec.name, prompt.record, judgement)
                if spec.name == "geneval":
                    objects[index] = judgement.described
    return rows, objects


def _place(picks: tuple[int, ...], candidate: int) -> int | None:
    """Where a candidate stands among several picks, from 0; None for one that was not kept."""
    return picks.index(candidate) if candidate in picks else None


def _keep_timings(folder: RunFolder, process: int, timings: dict[str, Any]) -> None:
    """Adds this process's prompts to what earlier ones measured; `finish` merges the processes."""
    if not timings:
        return
    file = folder.root / f".timings_{process}.json"
    before = read_json(file) if file.is_file() else {}
    write_json(file, {**before, **timings})


def _device_wait(run: ResolvedRun) -> Callable[[], None] | None:
    """Blocks until a GPU has done what it was given, where `intermediate_benchmarking` asks for exact stages."""
    device = run.models.device
    if not run.config.intermediate_benchmarking or not device.startswith("cuda"):
        return None
    import torch

    return lambda: torch.cuda.synchronize(device)
