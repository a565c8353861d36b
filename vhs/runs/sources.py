"""Where a run's candidates come from: made by a generator, or read from pictures that are there already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vhs import select
from vhs.best_of_n import require_finite
from vhs.errors import ImageError, RunError
from vhs.pictures import decode, encode
from vhs.seeding import PublishedNoise

if TYPE_CHECKING:
    from vhs.best_of_n import BestOfN
    from vhs.records import Prompt, Score
    from vhs.resolve import ResolvedRun
    from vhs.runs.folder import RunFolder
    from vhs.stages import StageTimes
    from vhs.verifiers.base import Verifier


@dataclass
class PromptOutcome:
    """One prompt's winner, the verifier's answers per candidate (see `answers`), and encoded pictures by candidate."""

    winner: int
    answers: list[dict[str, Any]]
    files: dict[int, bytes]


class Generated:
    """Candidates from a generator, chosen by its verifier."""

    def __init__(self, best_of_n: BestOfN, run: ResolvedRun) -> None:
        self.best_of_n = best_of_n
        self.fmt = run.config.fmt
        self.noise = None
        if run.config.noise == "published":
            info = best_of_n.generator.info
            stream = PublishedNoise(
                run.config.seed,
                run.config.num_samples,
                len(run.prompts),
                info.latent_shape,
                info.steps,
                run.process.index,
                run.process.count,
            )
            self.noise = lambda prompt, count: stream.noise(prompt.id)[:count]

    def __call__(self, prompt: Prompt) -> PromptOutcome:
        result = self.best_of_n(prompt, noise=self.noise)
        with self.best_of_n.times.stage("save", len(result.images)):
            files = {index: encode(image, self.fmt) for index, image in result.images.items()}
        return PromptOutcome(result.best_index, answers(result.score, result.num_samples), files)


class Saved:
    """Pictures on disk: of another folder (`imgs_path`), or this run's own (`re_eval`).

    A verifier that reads pictures scores them; any other leaves a run's own scores and winners as they are.
    """

    def __init__(self, run: ResolvedRun, folder: RunFolder, verifier: Verifier | None, times: StageTimes) -> None:
        self.config = run.config
        self.pictures = run.imgs_path
        self.folder = folder
        self.verifier = verifier if verifier is not None and verifier.reads == "image" else None
        self.times = times

    def __call__(self, prompt: Prompt) -> PromptOutcome:
        files = self._files(prompt)
        whole = len(files) == self.config.num_samples
        if self.verifier is not None and whole:
            with self.times.stage("score", len(files)):
                score = self.verifier.score(prompt.text, [decode(files[index], str(prompt.id)) for index in files])
            require_finite(prompt, score)
            winner = select.argmax(score.score.tolist(), self.config.tie).index
            return PromptOutcome(winner, answers(score, len(files)), files)
        if self.pictures is not None:
            return PromptOutcome(0, answers(None, len(files)), files)
        kept = [{key: row.get(key) for key in answers(None, 1)[0]} for row in self.folder.rows(prompt.id)]
        return PromptOutcome(self.folder.winner(prompt.id), kept, files)

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
