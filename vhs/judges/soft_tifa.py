"""The arithmetic of Soft-TIFA (GenEval 2, arXiv 2512.16853): questions, spellings of their answers, means.

A picture's soft score on a question is the probability that a vision-language model answers it rightly. AM is the
arithmetic mean of a picture's scores and tells of single facts, GM the geometric mean and tells of whole prompts.
Nothing here loads a model or reads a file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vhs.errors import PromptError

ASKED = "{question} Answer in one word."
YES = ("Yes", "yes", " yes", " Yes")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
DATA = (
    "geneval2_data.jsonl of github.com/facebookresearch/GenEval2 has them (CC BY-NC 4.0, so it is not shipped here); "
    "give its path as annotation"
)


@dataclass(frozen=True)
class Question:
    """One fact that a prompt asks for: a question, its right answer, and the skill that it tests."""

    text: str
    answer: str
    skill: str

    @property
    def asked(self) -> str:
        """As the model is asked."""
        return ASKED.format(question=self.text)

    @property
    def spellings(self) -> tuple[str, ...]:
        """The accepted answers. The probabilities of their first tokens are added up, once for each spelling, so that a
        token that two of them begin with counts twice, as in the official evaluation."""
        if self.answer == "Yes":
            return YES
        word, digit = self.answer, NUMBERS.index(self.answer)
        return (word, word.capitalize(), f" {word}", f" {word.capitalize()}", f"{digit}", f" {digit}")


def questions_of(record: Mapping[str, Any], where: str) -> tuple[Question, ...]:
    """The questions of a line of geneval2_data.jsonl: `vqa_list` of [question, answer], and as many `skills`.

    Raises PromptError, beginning with `where`.
    """
    pairs, skills = record.get("vqa_list"), record.get("skills")
    if not pairs:
        raise PromptError(f"{where}: no questions (vqa_list), which geneval2 judges by; {DATA}")
    if not isinstance(pairs, list) or not all(_is_pair(pair) for pair in pairs):
        raise PromptError(f"{where}: vqa_list is a list of [question, answer], both text")
    if not isinstance(skills, list) or len(skills) != len(pairs):
        raise PromptError(f"{where}: skills is a list with one skill for each of the {len(pairs)} questions")
    if not isinstance(record.get("atom_count"), int):
        raise PromptError(f"{where}: atom_count is {record.get('atom_count')!r}; a whole number would be right")
    for _, answer in pairs:
        if answer != "Yes" and answer not in NUMBERS:
            raise PromptError(f"{where}: answer {answer!r}; 'Yes' or a number word ('zero' to 'ten') would be right")
    return tuple(Question(*pair, str(skill)) for pair, skill in zip(pairs, skills, strict=True))


def arithmetic_mean(scores: Sequence[float]) -> float:
    """AM of one picture's scores."""
    return math.fsum(scores) / len(scores)


def geometric_mean(scores: Sequence[float]) -> float:
    """GM of one picture's scores, 0 where one of them is."""
    if min(scores) <= 0:
        return 0.0
    return math.exp(math.fsum(map(math.log, scores)) / len(scores))


def measures(record: Mapping[str, Any], scores: Sequence[float]) -> dict[str, list[tuple[str, float]]]:
    """The numbers of one picture by the tables that they go into, each as (row, value).

    GM and AM have a row per atomicity, the number of facts in the prompt; `skills` has a row per skill and a value per
    question, since the official figure is the mean over all questions that test a skill.
    """
    atoms = f"{record['atom_count']} atoms"
    by_skill = sorted(zip(record["skills"], scores, strict=True), key=lambda pair: pair[0])
    return {
        "Soft-TIFA GM": [(atoms, geometric_mean(scores))],
        "Soft-TIFA AM": [(atoms, arithmetic_mean(scores))],
        "Soft-TIFA AM by skill": by_skill,
    }


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, (list, tuple)) and len(pair) == 2 and all(isinstance(text, str) for text in pair)
