"""GenEval's record of a GenEval-shaped prompt, by rules: no model is asked.

a photo of a bench                         single_object
a photo of a bench and a sports ball       two_object
a photo of three wine glasses              counting
a photo of a blue fire hydrant             colors
a photo of a dog right of a teddy bear     position
a photo of a red skis and a brown tie      color_attr
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vhs.geneval.rules import COLORS

NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10}
RELATIONS = {
    "to the left of": "left of",
    "on the left of": "left of",
    "left of": "left of",
    "to the right of": "right of",
    "on the right of": "right of",
    "right of": "right of",
    "above": "above",
    "below": "below",
}
_OPENING = re.compile(r"^(?:an?\s+)?(?:photo|photograph|picture|image)\s+of\s+", re.IGNORECASE)
_IRREGULAR = {"person": "people", "computer mouse": "computer mice", "knife": "knives", "toothbrush": "toothbrushes"}


@dataclass(frozen=True)
class _Noun:
    name: str
    count: int
    color: str | None


class PromptParser:
    """Knows a detector's class names, in the singular and in the plural (the regular one and GenEval's bare `s`)."""

    def __init__(self, names: Sequence[str]) -> None:
        self.singular = {name.lower(): name for name in names}
        self.plural = {form: name for name in names for form in _plurals(name.lower())}

    def __call__(self, prompt: str) -> dict[str, Any] | None:
        """GenEval's record {tag, include, exclude?, prompt}, or None for a prompt of another shape."""
        text = _OPENING.sub("", " ".join(prompt.strip().rstrip(".").split())).lower()
        record = self._one(text) or self._relation(text) or self._two(text)
        return None if record is None else {**record, "prompt": prompt}

    def _one(self, text: str) -> dict[str, Any] | None:
        noun = self._noun(text)
        if noun is None:
            return None
        if noun.count == 1:
            return {"tag": "colors" if noun.color else "single_object", "include": [_clause(noun)]}
        if noun.color:
            return None
        more = {"class": noun.name, "count": noun.count + 1}
        return {"tag": "counting", "include": [_clause(noun)], "exclude": [more]}

    def _relation(self, text: str) -> dict[str, Any] | None:
        for words, relation in RELATIONS.items():
            first, found, second = text.partition(f" {words} ")
            if found:
                pair = self._pair(first, second)
                if pair is None or pair[0].color or pair[1].color:
                    return None
                return {
                    "tag": "position",
                    "include": [_clause(pair[1]), {**_clause(pair[0]), "position": [relation, 0]}],
                }
        return None

    def _two(self, text: str) -> dict[str, Any] | None:
        first, found, second = text.partition(" and ")
        pair = self._pair(first, second) if found else None
        if pair is None or (pair[0].color is None) != (pair[1].color is None):
            return None
        return {"tag": "color_attr" if pair[0].color else "two_object", "include": [_clause(noun) for noun in pair]}

    def _pair(self, first: str, second: str) -> tuple[_Noun, _Noun] | None:
        a, b = self._noun(first), self._noun(second)
        if a is None or b is None or a.count > 1 or b.count > 1 or a.name == b.name:
            return None
        return a, b

    def _noun(self, text: str) -> _Noun | None:
        """`a red cup`, `three dogs`: a determiner, perhaps a colour, a class name in the number that goes with it."""
        word, _, rest = text.partition(" ")
        if word in ("a", "an", "the", "one"):
            if rest in self.singular:
                return _Noun(self.singular[rest], 1, None)
            color, _, name = rest.partition(" ")
            return _Noun(self.singular[name], 1, color) if color in COLORS and name in self.singular else None
        count = NUMBERS.get(word) or (int(word) if word.isdecimal() and int(word) > 1 else None)
        if count is None:
            return None
        if rest in self.plural:
            return _Noun(self.plural[rest], count, None)
        color, _, name = rest.partition(" ")
        return _Noun(self.plural[name], count, color) if color in COLORS and name in self.plural else None


def _clause(noun: _Noun) -> dict[str, Any]:
    return {"class": noun.name, "count": noun.count} | ({"color": noun.color} if noun.color else {})


def _plurals(name: str) -> list[str]:
    forms = [name + "s", name + "es" if name.endswith(("s", "x", "ch", "sh")) else name + "s"]
    if name.endswith("y") and name[-2:-1] not in "aeiou":
        forms.append(name[:-1] + "ies")
    if name.endswith("s"):
        forms.append(name)
    return forms + ([_IRREGULAR[name]] if name in _IRREGULAR else [])
