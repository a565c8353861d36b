"""Scores that another program computed, one JSON object a line: so takes part what lives in another environment.

    {"prompt_id": 0, "candidate": 3, "score": 0.71}
    {"picture": "00000/samples/img_00003.png", "score": 0.71, "prompt": "a photo of a bench", "sha256": "9f2c..."}

A row names its candidate by number or by picture. `prompt` and `sha256` are optional and are compared where they stand,
so that scores of other prompts or pictures are refused. `p_yes`, `p_no` and `correct` may stand beside `score`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vhs.errors import RunError, first_line
from vhs.files import write_bytes
from vhs.records import Prompt, Score
from vhs.verifiers.base import Reads

ANSWERS = ("p_yes", "p_no", "correct")
TYPES = (
    (("prompt_id", "candidate"), (int,), "a whole number"),
    (("picture", "prompt", "sha256"), (str,), "a text"),
    (("p_yes", "p_no"), (int, float), "a number"),
    (("correct",), (bool,), "true or false"),
)
"""What fields of a row may be; each may be missing."""
_SAMPLE = re.compile(r"(?:^|/)(\d+)/samples/(?:[a-z]+_)?(\d+)\.\w+$")
SHOWN = 3


@dataclass(frozen=True)
class Row:
    """One line of a score file; `prompt_id` and `candidate` are None for a picture of any other name."""

    line: int
    score: float
    prompt_id: int | None
    candidate: int | None
    picture: str | None
    values: Mapping[str, Any]


def read_score_file(file: Path) -> list[Row]:
    """The rows. Raises RunError that names file and line for what is no row, and for a score that is not finite."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{file}: cannot be read ({error}); verifier_scripts/score.py writes such files") from None
    rows = [_row(line, f"{file}:{number}", number) for number, line in enumerate(lines, start=1) if line.strip()]
    if not rows:
        raise RunError(f"{file}: no scores in it")
    return rows


def write_score_file(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object a line, whole or not at all."""
    write_bytes(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())


class ScoreFile:
    """A verifier that looks its scores up by prompt number and candidate number."""

    reads: Reads = "nothing"
    block = width = micro_batch = None

    def __init__(self, file: Path) -> None:
        """Raises RunError for a file that is damaged, or names a candidate twice."""
        self.file, self.rows = file, read_score_file(file)
        self.by_candidate = _unique(file, self.rows)

    def require(self, prompts: Sequence[Prompt], count: int, picture: Callable[[int, int], Path] | None = None) -> None:
        """Raises RunError unless there is exactly one score for each of `count` candidates of each prompt, and the
        texts and hashes in the file are those of the prompts and of the files `picture(prompt id, candidate)`."""
        texts = {prompt.id: prompt.text for prompt in prompts}
        wanted = {(prompt.id, candidate) for prompt in prompts for candidate in range(count)}
        odd = [_place(key) for key in self.by_candidate if key not in wanted]
        if odd:
            raise RunError(f"{self.file}: scores of other pictures: {_some(odd)}; the run has no such candidates")
        for (prompt_id, _), row in self.by_candidate.items():
            text = row.values.get("prompt")
            if text is not None and text != texts[prompt_id]:
                raise RunError(
                    f"{self.file}:{row.line}: prompt {prompt_id} is {text!r}, in the run {texts[prompt_id]!r}"
                )
            if picture is not None:
                _require_same_picture(self.file, row, picture(*_key(row)))
        missing = [_place(key) for key in sorted(wanted - set(self.by_candidate))]
        if missing:
            raise RunError(f"{self.file}: scores missing: {_some(missing)}; one for each candidate is needed")

    def score_prompt(self, prompt: Prompt, features: int | Sequence[Any]) -> Score:
        """Scores of the first N candidates of a prompt, which `require` has found complete."""
        count = features if isinstance(features, int) else len(features)
        return as_score([self.by_candidate[prompt.id, candidate] for candidate in range(count)])

    def score(self, prompt: str, features: int | Sequence[Any]) -> Score:
        """A text alone does not tell which prompt of the file is meant."""
        raise RunError(f"{self.file}: scores are looked up by prompt number; use it in a run or with rank.py")


class PictureScores:
    """The scores of a file, looked up by picture: what `rank` uses."""

    reads: Reads = "image"
    block = width = micro_batch = None

    def __init__(self, file: Path, pictures: Sequence[Path], root: Path) -> None:
        """Raises RunError unless the file has exactly one score for each picture (`match_pictures`)."""
        rows = match_pictures(file, read_score_file(file), pictures, root)
        self.by_picture = {picture.resolve(): row for picture, row in zip(pictures, rows, strict=True)}

    def score(self, prompt: str, features: Sequence[str | Path]) -> Score:
        """Scores of N paths."""
        return as_score([self.by_picture[Path(path).resolve()] for path in features])


def as_score(rows: Sequence[Row]) -> Score:
    """The rows of N candidates as one Score; answers where every row has them."""
    import torch

    columns = []
    for name, kind in zip(ANSWERS, (torch.float32, torch.float32, torch.bool), strict=True):
        values = [row.values.get(name) for row in rows]
        columns.append(None if any(value is None for value in values) else torch.tensor(values, dtype=kind))
    return Score(*columns, torch.tensor([row.score for row in rows], dtype=torch.float32))


def match_pictures(file: Path, rows: Sequence[Row], pictures: Sequence[Path], root: Path) -> list[Row]:
    """One row per picture, in order. A row's `picture` is a path as it stands, or relative to `root`.

    Raises RunError, on one line, for pictures without a score, scores of other pictures, and duplicates.
    """
    named = {picture.resolve(): index for index, picture in enumerate(pictures)}
    found: dict[int, Row] = {}
    for row in rows:
        place = Path(row.picture or "")
        index = next((named[p] for p in ((root / place).resolve(), place.resolve()) if p in named), None)
        if row.picture is None or index is None:
            raise RunError(f"{file}:{row.line}: scores of other pictures: {row.picture or _place(_key(row))}")
        if index in found:
            raise RunError(f"{file}:{row.line}: {row.picture}: has a score on line {found[index].line} already")
        _require_same_picture(file, row, pictures[index])
        found[index] = row
    missing = [str(picture) for index, picture in enumerate(pictures) if index not in found]
    if missing:
        raise RunError(f"{file}: scores missing: {_some(missing)}; one for each picture is needed")
    return [found[index] for index in range(len(pictures))]


def _row(text: str, where: str, number: int) -> Row:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else first_line(error)
        raise RunError(f"{where}: not a JSON object ({reason}); one a line is right") from None
    score = values.get("score") if isinstance(values, Mapping) else None
    if isinstance(score, bool) or not isinstance(score, (int, float)):
        raise RunError(f"{where}: no score; {{'prompt_id': 0, 'candidate': 3, 'score': 0.71}} is right")
    if not math.isfinite(score):
        raise RunError(f"{where}: score is {score}; a finite number is right")
    for names, kinds, right in TYPES:
        for name in names:
            if type(values.get(name)) not in (*kinds, type(None)):
                raise RunError(f"{where}: {name} is {str(values[name])[:40]!r}; {right} is right")
    prompt_id, candidate = values.get("prompt_id"), values.get("candidate")
    picture = values.get("picture")
    if prompt_id is None and candidate is None and isinstance(picture, str) and (named := _SAMPLE.search(picture)):
        prompt_id, candidate = int(named[1]), int(named[2])
    if picture is None and (prompt_id is None or candidate is None):
        raise RunError(f"{where}: names no picture and no prompt_id with candidate")
    return Row(number, float(score), prompt_id, candidate, picture, values)


def _unique(file: Path, rows: Sequence[Row]) -> dict[tuple[int, int], Row]:
    found: dict[tuple[int, int], Row] = {}
    for row in rows:
        if row.prompt_id is None or row.candidate is None:
            continue
        first = found.setdefault(_key(row), row)
        if first is not row:
            raise RunError(f"{file}:{row.line}: {_place(_key(row))} has a score on line {first.line} already")
    return found


def _require_same_picture(file: Path, row: Row, picture: Path) -> None:
    if "sha256" in row.values and row.values["sha256"] != picture_hash(picture):
        raise RunError(f"{file}:{row.line}: {picture} is another picture than the one that was scored")


def picture_hash(picture: Path) -> str:
    """SHA-256 of a picture file, in hexadecimal. Raises RunError where there is none."""
    try:
        return hashlib.sha256(picture.read_bytes()).hexdigest()
    except OSError as error:
        raise RunError(f"{picture}: cannot be read ({error.strerror})") from None


def _key(row: Row) -> tuple[int, int]:
    return row.prompt_id, row.candidate


def _place(key: tuple[int, int]) -> str:
    return f"prompt {key[0]} candidate {key[1]}"


def _some(places: Sequence[str]) -> str:
    more = len(places) - SHOWN
    return ", ".join(places[:SHOWN]) + (f" and {more} more" if more > 0 else "")
