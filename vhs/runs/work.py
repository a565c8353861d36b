"""What one worker makes of a prompt: candidates, the choice among them, encoded pictures and verdicts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vhs.best_of_n import BestOfN
from vhs.judges.rows import keep
from vhs.pictures import decode
from vhs.records import Prompt
from vhs.runs.folder import RunFolder
from vhs.runs.sources import Generated, PromptOutcome, Saved
from vhs.stages import StageTimes, total

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


@dataclass(frozen=True)
class _Chosen:
    """A prompt whose candidates are made and chosen among; its pictures may still be being encoded."""

    prompt: Prompt
    outcome: PromptOutcome
    files: Future[tuple[dict[int, bytes], StageTimes]]
    stages: dict[str, dict[str, float | int]]


class Worker:
    """A run's models, loaded. Raises CheckpointError where they cannot be."""

    def __init__(self, run: ResolvedRun, folder: RunFolder, models: LoadedModels | None = None) -> None:
        """`models` are the generator and verifiers where they are loaded already."""
        self.folder = folder
        self.times = StageTimes(_device_wait(run))
        self.source = _source(run, folder, self.times, models)
        self.judges = [(spec, spec.load()) for spec in run.judges]
        self.ahead = 0 if run.config.intermediate_benchmarking else 1

    def __call__(self, prompt: Prompt) -> Made:
        return next(iter(self.over([prompt])))

    def over(self, prompts: Iterable[Prompt]) -> Iterator[Made]:
        """What is made of each prompt, in their order.

        A prompt's pictures are encoded, by a processor, beside the next one's candidates, which a GPU makes; not where
        `intermediate_benchmarking` times the stages. An error or Ctrl-C among those comes after what is made already.
        """
        chosen, failure = deque[_Chosen](), None
        with ThreadPoolExecutor(max_workers=1) as encoder:
            for prompt in prompts:
                try:
                    chosen.append(self._chosen(prompt, encoder))
                except BaseException as error:
                    failure = error
                    break
                if len(chosen) > self.ahead:
                    yield self._judged(chosen.popleft())
            while chosen:
                yield self._judged(chosen.popleft())
        if failure is not None:
            raise failure

    def _chosen(self, prompt: Prompt, encoder: Executor) -> _Chosen:
        self.times.stages.clear()
        outcome = self.source(prompt)
        return _Chosen(prompt, outcome, encoder.submit(_timed, outcome), self.times.as_dict())

    def _judged(self, chosen: _Chosen) -> Made:
        files, saving = chosen.files.result()
        self.times.stages.clear()
        rows, objects = _rows(self.folder, chosen.prompt, chosen.outcome, files, self.judges, self.times)
        stages = total([chosen.stages, saving.as_dict(), self.times.as_dict()])
        return Made(chosen.prompt, chosen.outcome.picks[0], files, rows, objects, stages)


def _timed(outcome: PromptOutcome) -> tuple[dict[int, bytes], StageTimes]:
    """The encoded pictures, and the time that it took."""
    saving = StageTimes()
    with saving.stage("save", 0):
        files = outcome.encode()
    saving.stages["save"].items = len(files)
    return files, saving


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
    files: dict[int, bytes],
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
    with times.stage("judge", len(files)):
        # What is judged is what was saved, decoded again: a JPEG's losses count, and judging the folder later, with
        # re_eval or geneval.py, gives the same verdicts.
        pictures = [decode(data, str(folder.picture(prompt.id, index))) for index, data in files.items()]
        for spec, judge in asked:
            judgements = judge.judge_batch(pictures, [prompt.record] * len(pictures))
            for index, judgement in zip(files, judgements, strict=True):
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
