"""Judges that ask a vision-language model: Soft-TIFA (GenEval 2, arXiv 2512.16853) and VQAScore (Lin et al., 2024)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from PIL.Image import Image

from vhs.judges import soft_tifa
from vhs.judges.base import Marks, Record
from vhs.verifiers.vlm import QUESTION, VisionLanguageModel


class SoftTifaJudge:
    """GenEval 2: the probability of the right answer to every question of a prompt."""

    def __init__(self, model: VisionLanguageModel, micro_batch: int | None = None) -> None:
        """`micro_batch` pictures are asked about at once (None: all), each with all its questions."""
        self.model, self.micro_batch = model, micro_batch

    def judge_batch(self, images: Sequence[Image], records: Sequence[Record]) -> list[Marks]:
        """`score` is the picture's GM; its row keeps AM and, as `atoms`, the soft score of every question."""
        return in_parts(self._judge, self.micro_batch, images, records)

    def _judge(self, images: Sequence[Image], records: Sequence[Record]) -> list[Marks]:
        asked = [soft_tifa.questions_of(record, str(record.get("prompt"))) for record in records]
        pairs = [(image, one) for image, questions in zip(images, asked, strict=True) for one in questions]
        found = self.model.answer_probabilities(
            [image for image, _ in pairs],
            [question.asked for _, question in pairs],
            [self.model.first_tokens(question.spellings) for _, question in pairs],
        )
        answers = iter(found.probabilities.tolist())
        return [_marks([next(answers) for _ in questions]) for questions in asked]


class VqaScoreJudge:
    """The probability of yes to "does this image show the prompt?"."""

    def __init__(self, model: VisionLanguageModel, question: str = QUESTION, micro_batch: int | None = None) -> None:
        """`question` holds {prompt}; `micro_batch` pictures are asked about at once (None: all)."""
        self.model, self.question, self.micro_batch = model, question, micro_batch
        self.tokens = model.first_tokens(soft_tifa.YES)

    def judge_batch(self, images: Sequence[Image], records: Sequence[Record]) -> list[Marks]:
        """`score` is the probability of yes."""
        return in_parts(self._judge, self.micro_batch, images, records)

    def _judge(self, images: Sequence[Image], records: Sequence[Record]) -> list[Marks]:
        questions = [self.question.replace("{prompt}", record["prompt"]) for record in records]
        found = self.model.answer_probabilities(images, questions, [self.tokens] * len(images))
        return [Marks(score) for score in found.probabilities.tolist()]


def in_parts(
    judge: Callable[[Sequence[Image], Sequence[Record]], list[Marks]],
    size: int | None,
    images: Sequence[Image],
    records: Sequence[Record],
) -> list[Marks]:
    """The judgements of `size` pictures at a time (None: all), one after the other."""
    step = size or len(images)
    parts = (slice(start, start + step) for start in range(0, len(images), step))
    return [one for part in parts for one in judge(images[part], records[part])]


def _marks(scores: list[float]) -> Marks:
    details: dict[str, Any] = {"am": soft_tifa.arithmetic_mean(scores), "atoms": scores}
    return Marks(soft_tifa.geometric_mean(scores), details)
