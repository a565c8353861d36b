"""Where a run's candidates come from: made by a generator, or read from pictures that are there already."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vhs.choosing import score_and_choose
from vhs.errors import ImageError, RunError
from vhs.geneval.folders import candidates
from vhs.pictures import decode, encode, open_picture
from vhs.seeding import PublishedNoise, candidate_seed

if TYPE_CHECKING:
    from PIL.Image import Image

    from vhs.best_of_n import BestOfN
    from vhs.config.run import RunConfig
    from vhs.generators.base import GeneratorInfo
    from vhs.records import Prompt, Score
    from vhs.resolve import ResolvedRun
    from vhs.runs.folder import RunFolder
    from vhs.stages import StageTimes
    from vhs.verifiers.base import Verifier


@dataclass
class PromptOutcome:
    """One prompt's picks, the winner first, the verifier's answers per candidate (see `answers`), and what makes the
    encoded pictures by candidate, in any thread."""

    picks: tuple[int, ...]
    answers: list[dict[str, Any]]
    encode: Callable[[], dict[int, bytes]]


class Generated:
    """Candidates from a generator, chosen by its verifier."""

    def __init__(self, best_of_n: BestOfN, run: ResolvedRun) -> None:
        self.best_of_n = best_of_n
        self.fmt = run.config.fmt
        self.noise = None
        if run.config.noise == "published":
            info, process = best_of_n.generator.info, run.process
            stream = published_noise(run.config, len(run.prompts), info, process.index, process.count)
            self.noise = lambda prompt, count: stream.noise(prompt.id)[:count]

    def __call__(self, prompt: Prompt) -> PromptOutcome:
        result = self.best_of_n(prompt, noise=self.noise)
        said = answers(result.score, result.num_samples)
        if result.rerank_scores is not None:
            said = [row | {"rerank_score": result.rerank_scores.get(index)} for index, row in enumerate(said)]
        return PromptOutcome(result.picks, said, partial(_encoded, result.images, self.fmt))


def _encoded(images: dict[int, Image], fmt: str) -> dict[int, bytes]:
    return {index: encode(image, fmt) for index, image in images.items()}


def published_noise(
    config: RunConfig, prompts: int, info: GeneratorInfo, process: int, processes: int
) -> PublishedNoise:
    """The release's noise of the prompts in one process's slice."""
    size = (config.seed, config.num_samples, prompts)
    return PublishedNoise(*size, info.latent_shape, info.steps, process, processes)


class Saved:
    """Pictures on disk: of another folder (`imgs_path`), or this run's own (`re_eval`).

    A verifier that reads pictures scores them; any other leaves a run's own scores and winners as they are.
    """

    def __init__(self, run: ResolvedRun, folder: RunFolder, verifier: Verifier | None, times: StageTimes) -> None:
        self.config = run.config
        self.pictures = run.imgs_path
        self.folder = folder
        scores = verifier is not None and run.config.rerank is None and _scores_pictures(verifier)
        self.verifier = verifier if scores else None
        self.times = times
        if self.pictures is not None:
            _require_candidates(run, self.pictures)

    def __call__(self, prompt: Prompt) -> PromptOutcome:
        files = self._files(prompt)
        whole = len(files) == self.config.num_samples
        if self.verifier is not None and whole:
            with self.times.stage("score", len(files)):
                pictures = [decode(files[index], str(prompt.id)) for index in files]
                seed = candidate_seed(self.config.seed, prompt.id, -1)
                score, chosen = score_and_choose(
                    self.verifier, prompt, pictures, self.config.rule, self.config.tie, seed
                )
            return PromptOutcome(chosen.picks, answers(score, len(files)), lambda: files)
        if self.pictures is not None:
            return PromptOutcome((0,), answers(None, len(files)), lambda: files)
        rows = self.folder.rows(prompt.id)
        names = [*answers(None, 1)[0], *(("rerank_score",) if "rerank_score" in rows[0] else ())]
        kept = [{name: row.get(name) for name in names} for row in rows]
        places = sorted((row["pick"], index) for index, row in enumerate(rows) if row.get("pick") is not None)
        picks = tuple(index for _, index in places) or (self.folder.winner(prompt.id),)
        return PromptOutcome(picks, kept, lambda: files)

    def _files(self, prompt: Prompt) -> dict[int, bytes]:
        """Encoded pictures by candidate: all of them from `imgs_path`, those that the run saved otherwise."""
        if self.pictures is None:
            if not self.folder.done(prompt.id):
                raise RunError(
                    f"{self.folder.prompt(prompt.id)}: no pictures to judge again; finish the run with cont: true"
                )
            paths = {index: self.folder.picture(prompt.id, index) for index in range(self.config.num_samples)}
            return {index: path.read_bytes() for index, path in paths.items() if path.is_file()}
        found = candidates(self.pictures, prompt.id)[: self.config.num_samples]
        return {index: self._as_saved(path) for index, path in enumerate(found)}

    def _as_saved(self, path: Path) -> bytes:
        """The file's own bytes where it is of the run's format."""
        own = path.suffix.lower().removeprefix(".").replace("jpeg", "jpg") == self.config.fmt
        return path.read_bytes() if own else encode(open_picture(path), self.config.fmt)


def _require_candidates(run: ResolvedRun, root: Path) -> None:
    """Raises ImageError, before the first is judged, where a prompt has fewer pictures than the run has candidates."""
    count = run.config.num_samples
    short = {prompt.id: len(found) for prompt in run.prompts if len(found := candidates(root, prompt.id)) < count}
    if short:
        listed = ", ".join(f"{prompt:05d} has {there}" for prompt, there in list(short.items())[:5])
        more = f" and {len(short) - 5} more prompts" if len(short) > 5 else ""
        raise ImageError(
            f"{root}: num_samples is {count}, but {listed}{more}; "
            "<prompt id>/samples/img_00000.png ... or 0000.png ... is needed"
        )


def _scores_pictures(verifier: Verifier) -> bool:
    """It reads them, or knows their scores from a file."""
    return verifier.reads == "image" or (verifier.reads == "nothing" and hasattr(verifier, "score_prompt"))


def answers(score: Score | None, count: int) -> list[dict[str, Any]]:
    """A verifier's answers as plain values, one dict per candidate; null for what it does not say."""
    columns = {
        "correct_verifier": None if score is None else score.correct,
        "score": None if score is None else score.score,
        "p_yes": None if score is None else score.p_yes,
        "p_no": None if score is None else score.p_no,
    }
    values = {name: [None] * count if column is None else column.tolist() for name, column in columns.items()}
    return [{name: column[index] for name, column in values.items()} for index in range(count)]
