"""Where a run's candidates come from: made by a generator, or read from pictures that are there already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vhs.choosing import score_and_choose
from vhs.errors import ImageError, RunError
from vhs.pictures import decode, encode
from vhs.seeding import PublishedNoise, candidate_seed

if TYPE_CHECKING:
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
    """One prompt's picks, the winner first, the verifier's answers per candidate (see `answers`), and encoded pictures
    by candidate."""

    picks: tuple[int, ...]
    answers: list[dict[str, Any]]
    files: dict[int, bytes]


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
        with self.best_of_n.times.stage("save", len(result.images)):
            files = {index: encode(image, self.fmt) for index, image in result.images.items()}
        said = answers(result.score, result.num_samples)
        if result.rerank_scores is not None:
            said = [row | {"rerank_score": result.rerank_scores.get(index)} for index, row in enumerate(said)]
        return PromptOutcome(result.picks, said, files)


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
            return PromptOutcome(chosen.picks, answers(score, len(files)), files)
        if self.pictures is not None:
            return PromptOutcome((0,), answers(None, len(files)), files)
        rows = self.folder.rows(prompt.id)
        names = [*answers(None, 1)[0], *(("rerank_score",) if "rerank_score" in rows[0] else ())]
        kept = [{name: row.get(name) for name in names} for row in rows]
        places = sorted((row["pick"], index) for index, row in enumerate(rows) if row.get("pick") is not None)
        picks = tuple(index for _, index in places) or (self.folder.winner(prompt.id),)
        return PromptOutcome(picks, kept, files)

    def _files(self, prompt: Prompt) -> dict[int, bytes]:
        """Encoded pictures by candidate: all of them from `imgs_path`, those that the run saved otherwise."""
        if self.pictures is None:
            if not self.folder.done(prompt.id):
                raise RunError(
                    f"{self.folder.prompt(prompt.id)}: no pictures to judge again; finish the run with cont: true"
                )
            paths = {index: self.folder.picture(prompt.id, index) for index in range(self.config.num_samples)}
            return {index: path.read_bytes() for index, path in paths.items() if path.is_file()}
        samples = self.pictures / f"{prompt.id:05d}" / "samples"
        paths = [samples / f"img_{index:05d}.{self.config.fmt}" for index in range(self.config.num_samples)]
        for path in paths:
            if not path.is_file():
                raise ImageError(f"{path}: missing; imgs_path, num_samples and fmt name this picture")
        return {index: path.read_bytes() for index, path in enumerate(paths)}


def _scores_pictures(verifier: Verifier) -> bool:
    """It reads them, or knows their scores from a file."""
    return verifier.reads == "image" or hasattr(verifier, "score_prompt")


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
