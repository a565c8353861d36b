"""Captions of collected pictures: from an image-text model with the paper's prompt, or from what a detector sees."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vhs.processes import Process
from vhs.records import Detection
from vhs.training.data.labels import Progress, line_of, write_parts, write_rows
from vhs.training.data.store import CollectedSet

if TYPE_CHECKING:
    from PIL.Image import Image

    from vhs.geneval.evaluate import GenEval
    from vhs.training.made import Made

Captioner = Callable[[Sequence["Image"]], list[str]]
Answers = Callable[[Sequence[str]], list[str]]
"""Messages to an LLM in, its answers out."""

REFINE = (
    "Rewrite the image caption below as one concise English sentence. Keep every object, colour, number and relation "
    "that it names; leave out names of brands and people, prices, and whatever a picture cannot show. Output only the "
    "sentence in plain text, without line breaks. The caption is: {caption}"
)
"""How captions are refined before they become prompts. The paper says that Gemma does it and gives no wording."""
WORDS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine", 10: "ten"}


def write_captions(
    data: CollectedSet,
    captioner: Captioner,
    file: str = "captions.jsonl",
    *,
    source: str = "",
    batch: int = 16,
    process: Process = Process(),
    progress: Progress = lambda done: None,
    made: Made | None = None,
) -> None:
    """Captions every picture of a set; pictures that get an empty caption get no line. See `labels.write_rows`."""

    def lines(indices: Sequence[int]) -> list[str]:
        captions = captioner([data.picture(index) for index in indices])
        return [line_of(data, index, caption=text) for index, text in zip(indices, captions, strict=True) if text]

    write_rows(
        data, range(len(data)), lines, file, source=source, batch=batch, process=process, progress=progress, made=made
    )


def write_refined(texts: Sequence[str], answers: Answers, path: Path, question: str = REFINE, **options: Any) -> None:
    """Puts captions into better words: a prompt file with a line per text, the original beside the new one. A text
    that gets an empty answer stays as it is; `options` are `labels.write_parts`'s."""

    def lines(indices: Sequence[int]) -> list[str]:
        asked = [question.replace("{caption}", texts[index]) for index in indices]
        said = [" ".join(answer.split()) for answer in answers(asked)]
        rows = [
            {"prompt": new or texts[index], "caption": texts[index]} for index, new in zip(indices, said, strict=True)
        ]
        return [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]

    write_parts(path, range(len(texts)), lines, **options)


def detector_captioner(judge: GenEval, min_score: float | None = None) -> Captioner:
    """Sentences about what GenEval's detector finds above `min_score` (absent: the judge's own threshold), each object
    with its colour as the classifier names it."""
    from vhs.pictures import to_rgb

    threshold = judge.thresholds.confidence if min_score is None else min_score

    def captions(pictures: Sequence[Image]) -> list[str]:
        pictures = [to_rgb(picture) for picture in pictures]
        found = [
            [one for one in objects if one.score > threshold] for objects in judge.detector.detect(pictures, threshold)
        ]
        return [sentence(objects) for objects in with_colors(judge, pictures, found)]

    return captions


def with_colors(
    judge: GenEval, pictures: Sequence[Image], found: Sequence[Sequence[Detection]]
) -> list[list[tuple[Detection, str]]]:
    """The objects found in each picture, each with its colour as the judge's classifier names it."""
    from vhs.geneval.colors import ColorQuery

    queries = [
        ColorQuery(picture, one, one.label) for picture, objects in zip(pictures, found, strict=True) for one in objects
    ]
    colors = iter(judge.colors.classify(queries))
    return [[(one, next(colors)) for one in objects] for objects in found]


def sentence(objects: Sequence[tuple[Detection, str]]) -> str:
    """The objects in one sentence without a full stop; empty for none.

    Two different objects are described with their relation, equal ones with their number, others from left to right.
    """
    ordered = sorted(objects, key=lambda seen: (_centre(seen[0])[0], _centre(seen[0])[1]))
    kinds = Counter((color, one.label) for one, color in ordered)
    if len(ordered) == 2 and len(kinds) == 2:
        return _related(*ordered)
    phrases = [_phrase(color, label, count) for (color, label), count in kinds.items()]
    return " and ".join(filter(None, [", ".join(phrases[:-1]), *phrases[-1:]]))


def _related(first: tuple[Detection, str], second: tuple[Detection, str]) -> str:
    """Which one is left of the other or above it, by the axis on which the two are further apart."""
    (x0, y0), (x1, y1) = _centre(first[0]), _centre(second[0])
    beside = abs(x1 - x0) >= abs(y1 - y0)
    if not beside and y1 < y0:
        first, second = second, first
    (a, color_a), (b, color_b) = first, second
    return f"{_phrase(color_a, a.label, 1)} {'left of' if beside else 'above'} {_phrase(color_b, b.label, 1)}"


def _phrase(color: str, label: str, count: int) -> str:
    if count > 1:
        return f"{WORDS.get(count, count)} {color} {label}{'es' if label.endswith('s') else 's'}"
    return f"{'an' if color[0] in 'aeiou' else 'a'} {color} {label}"


def _centre(one: Detection) -> tuple[float, float]:
    x0, y0, x1, y1 = one.box
    return (x0 + x1) / 2, (y0 + y1) / 2
