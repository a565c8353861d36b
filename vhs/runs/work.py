"""What one worker makes of a prompt: candidates, the choice among them, encoded pictures and verdicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vhs.best_of_n import BestOfN
from vhs.judges.rows import keep
from vhs.pictures import decode
from vhs.records import Prompt
from vhs.runs.folder import RunFolder
from vhs.runs.sources import Generated, PromptOutcome, Saved
from vhs.stages import StageTimes

if TYPE_CHECKING:
    from vhs.judges.base import Judge, JudgeSpec
    from vhs.resolve import LoadedModels, ResolvedRun


@dataclass(frozen=True)
class Made:
    """Everything about one prompt that is to be written, as `RunFolder.write_prompt` takes it, and its stages."""

    prompt: Prompt
    winner: int
    files: dict[int, bytes]
    rows: list[dict[str, Any]]
    objects: dict[int, list[dict[str, Any]]]
    stages: dict[str, dict[str, float | int]]


class Worker:
    """A run's models, loaded. Raises CheckpointError where they cannot be."""

    def __init__(self, run: ResolvedRun, folder: RunFolder, models: LoadedModels | None = None) -> None:
        """`models` are the generator and verifiers where they are loaded already."""
        self.folder = folder
        self.times = StageTimes(_device_wait(run))
        self.source = _source(run, folder, self.times, models)
        self.judges = [(spec, spec.load()) for spec in run.judges]

    def __call__(self, prompt: Prompt) -> Made:
        self.times.stages.clear()
        outcome = self.source(prompt)
        rows, objects = _rows(self.folder, prompt, outcome, self.judges, self.times)
        return Made(prompt, outcome.picks[0], outcome.files, rows, objects, self.times.as_dict())


def _source(
    run: ResolvedRun, folder: RunFolder, times: StageTimes, models: LoadedModels | None
) -> Callable[[Prompt], PromptOutcome]:
    """Where the candidates come from."""
    if not run.config.generates:
        return Saved(run, folder, run.models.load_verifier(), times)
    return Generated(BestOfN.of(run.config, *(models or run.models.load()), times=times), run)


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


def _device_wait(run: ResolvedRun) -> Callable[[], None] | None:
    """Blocks until a GPU has done what it was given, where `intermediate_benchmarking` asks for exact stages."""
    device = run.models.device
    if not run.config.intermediate_benchmarking or not device.startswith("cuda"):
        return None
    import torch

    return lambda: torch.cuda.synchronize(device)
