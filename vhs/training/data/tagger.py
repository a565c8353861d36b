"""GenEval's record of a free-form prompt by an instruction LLM: its tag with the paper's prompt (Figure 10), then its
clauses as JSON. Answers are parsed strictly: what is not exactly a tag or a valid record is an error, never a guess.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from vhs.errors import ConfigError, PromptError
from vhs.geneval.metadata import check_metadata
from vhs.geneval.rules import COLORS, RELATIONS
from vhs.paths import find
from vhs.records import TAGS

Answers = Callable[[Sequence[str]], list[str]]
"""Messages to an LLM in, its answers out."""

PAPER_PROMPTS = "data/paper_prompts.yaml"
_RECORD = """Write down what the text-to-image prompt below asks for, as one JSON object and nothing else.

The object has a key "include": the list of objects that the picture must show. Each has "class", one of: {names}; and \
"count", a whole number from 1. Give "color" only where the prompt names one: {colors}. Give "position" only where the \
prompt states a relation: [relation, index], with a relation of {relations}, and the index of the object in the list \
that it refers to, which must come first. The prompt is of the kind "{tag}".

Example: "a photo of a red cup" is {{"include": [{{"class": "cup", "count": 1, "color": "red"}}]}}
Example: "a dog left of a horse" is {{"include": [{{"class": "horse", "count": 1}}, {{"class": "dog", "count": 1, \
"position": ["left of", 0]}}]}}

The prompt is {prompt}"""
_FENCE = re.compile(r"^```(?:json)?\s*(.*?)\s*```$", re.DOTALL)


def paper_prompt(name: str, path: str | Path = PAPER_PROMPTS) -> str:
    """`tag`, `caption` or `score` of the paper's supplement, with {input_prompt} where the prompt goes."""
    try:
        prompts = yaml.safe_load(find(path).read_text(encoding="utf-8"))
        return prompts[name]
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        raise ConfigError(
            f"{path}: no prompt {name!r}; the paper's tag, caption and score prompts belong there"
        ) from None


def tag_message(prompt: str, template: str) -> str:
    """The paper's question for the tag of `prompt`."""
    return template.replace("{input_prompt}", prompt)


def parse_tag(answer: str, prompt: str) -> str:
    """The tag in an answer that is a tag, in any case, at most in quotes. Raises PromptError for anything else."""
    tag = answer.strip().strip("\"'`").lower()
    if tag not in TAGS:
        raise PromptError(
            f"prompt {prompt!r}: the LLM answered {_short(answer)}, which is no tag; one of {', '.join(TAGS)} is"
        )
    return tag


def record_message(prompt: str, tag: str, names: Sequence[str]) -> str:
    """The question for the clauses of a prompt of this tag."""
    return _RECORD.format(
        names=", ".join(names), colors=", ".join(COLORS), relations=", ".join(RELATIONS), tag=tag, prompt=prompt
    )


def parse_record(answer: str, tag: str, prompt: str, names: Sequence[str]) -> dict[str, Any]:
    """GenEval's record from an answer that is one JSON object, at most in a code fence.

    What counting excludes, one more of the same, is filled in. Raises PromptError for anything that is not a record of
    this tag with these classes.
    """
    where = f"prompt {prompt!r}: the LLM's record"
    text = answer.strip()
    fenced = _FENCE.match(text)
    try:
        found = json.loads(fenced[1] if fenced else text)
    except ValueError:
        raise PromptError(f"{where} is not JSON: {_short(answer)}") from None
    if not isinstance(found, dict) or not set(found) <= {"include", "exclude"}:
        raise PromptError(f"{where} is {_short(answer)}; an object with include, and at most exclude, is needed")
    record = {"tag": tag, "include": found.get("include"), "prompt": prompt}
    if tag == "counting" and isinstance(record["include"], list):
        record["exclude"] = [_one_more(clause) for clause in record["include"]]
    if found.get("exclude"):
        record["exclude"] = found["exclude"]
    check_metadata(record, names, where)
    if not _fits(tag, record["include"]):
        raise PromptError(f"{where} is {json.dumps(record['include'])}, which is not of the kind {tag}")
    return record


def _one_more(clause: Any) -> Any:
    count = clause.get("count") if isinstance(clause, dict) else None
    return {"class": clause.get("class"), "count": count + 1} if isinstance(count, int) else clause


def _fits(tag: str, include: list[dict[str, Any]]) -> bool:
    """The clauses have the form that GenEval's prompts of this tag have."""
    counts = [clause["count"] for clause in include]
    colored = ["color" in clause for clause in include]
    placed = ["position" in clause for clause in include]
    distinct = len({clause["class"] for clause in include}) == len(include)
    forms = {
        "single_object": (counts == [1], [False], [False]),
        "two_object": (counts == [1, 1] and distinct, [False, False], [False, False]),
        "counting": (len(counts) == 1 and counts[0] > 1, [False], [False]),
        "colors": (counts == [1], [True], [False]),
        "position": (counts == [1, 1] and distinct, [False, False], [False, True]),
        "color_attr": (counts == [1, 1] and distinct, [True, True], [False, False]),
    }
    numbers, colors, positions = forms[tag]
    return numbers and colored == colors and placed == positions


def _short(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= 80 else line[:77] + "...")


def ask_records(
    prompts: Sequence[str], answers: Answers, names: Sequence[str], rejected: Callable[[str, PromptError], None]
) -> list[dict[str, Any]]:
    """Records of the prompts that the LLM could describe; `rejected(prompt, error)` hears of the others."""
    template = paper_prompt("tag")
    tagged: list[tuple[str, str]] = []
    for prompt, answer in zip(prompts, answers([tag_message(p, template) for p in prompts]), strict=True):
        try:
            tagged.append((prompt, parse_tag(answer, prompt)))
        except PromptError as error:
            rejected(prompt, error)
    records = []
    for (prompt, tag), answer in zip(tagged, answers([record_message(p, t, names) for p, t in tagged]), strict=True):
        try:
            records.append(parse_record(answer, tag, prompt, names))
        except PromptError as error:
            rejected(prompt, error)
    return records
