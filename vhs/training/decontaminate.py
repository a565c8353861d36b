"""Training prompts that are evaluation prompts as well: which they are, so that a training leaves them out."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from vhs.paths import find
from vhs.prompts import read_prompts

EVALUATIONS = ("data/evaluation_metadata.json", "data/geneval2_data.jsonl")
"""GenEval's 553 prompts, and GenEval 2's 800, which are not shipped: they are checked where the file is there."""


@dataclass(frozen=True)
class Overlap:
    """A training prompt that stands in an evaluation's `file`: letter by letter, or `normalised`."""

    prompt: str
    kind: Literal["exact", "normalised"]
    file: str


def normalised(text: str) -> str:
    """The words of a text: compatibility forms, case, punctuation and spaces do not count."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def overlaps(prompts: Iterable[str], files: Sequence[str] = EVALUATIONS) -> list[Overlap]:
    """The distinct prompts that stand in one of the evaluation files that are there, in order."""
    exact: dict[str, str] = {}
    for file in files:
        if (path := find(file)).exists():
            for prompt in read_prompts(path):
                exact.setdefault(prompt.text, file)
    words = {normalised(text): file for text, file in reversed(exact.items())}
    found = []
    for text in dict.fromkeys(prompts):
        if text in exact:
            found.append(Overlap(text, "exact", exact[text]))
        elif (form := normalised(text)) in words:
            found.append(Overlap(text, "normalised", words[form]))
    return found
