"""Looking at one prompt's candidates: the text, strip, table, files and figure behind `Result`'s methods.

`images` are decoded pictures by candidate: the winner's alone in prod. `scores` has one number per candidate, and is
empty without a verifier. `rows` are those of `table`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vhs.errors import RunError
from vhs.files import write_bytes, write_json
from vhs.pictures import encode

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure
    from PIL.Image import Image

    from vhs.records import Score

FRAME = "#f2a100"
SIDE = 160
"""Longest side, in pixels, of a picture in a notebook's strip."""
ACROSS = 8


def order(scores: Sequence[float], count: int) -> list[int]:
    """Candidates from the highest score to the lowest, of equal ones the first; as they come without scores."""
    return sorted(range(count), key=lambda index: (-scores[index] if len(scores) else 0.0, index))


def summary(text: str, scores: Sequence[float], best_index: int, count: int) -> str:
    """`Result('a photo of ...', candidate 3 of 8, score +0.996)`."""
    short = text if len(text) <= 60 else f"{text[:57]}..."
    score = f", score {scores[best_index]:+.3f}" if len(scores) else ""
    return f"Result({short!r}, candidate {best_index} of {count}{score})"


def table(score: Score | None, best_index: int, count: int) -> list[dict[str, Any]]:
    """One row per candidate, in their own order: {candidate, score, p_yes, p_no, says_yes, best}; None: not known."""
    columns = {"score": "score", "p_yes": "p_yes", "p_no": "p_no", "says_yes": "correct"}
    values = {name: getattr(score, key, None) for name, key in columns.items()}
    lists = {name: [None] * count if one is None else one.tolist() for name, one in values.items()}
    return [
        {"candidate": index, **{name: one[index] for name, one in lists.items()}, "best": index == best_index}
        for index in range(count)
    ]


def frame(rows: Sequence[Mapping[str, Any]]) -> pandas.DataFrame:
    """The rows as a table with the candidate as its index. Raises RunError where pandas is not installed."""
    try:
        import pandas
    except ImportError:
        raise RunError("to_frame: pandas is not installed; pip install pandas, or read .scores") from None
    return pandas.DataFrame(rows).set_index("candidate")


def strip(text: str, images: Mapping[int, Image], scores: Sequence[float], best_index: int, count: int) -> str:
    """HTML for a notebook: decoded candidates in score order, the winner framed; what was not decoded is counted."""
    cells = []
    for index in order(scores, count):
        if index in images:
            border = f"outline:3px solid {FRAME};outline-offset:1px" if index == best_index else ""
            source = base64.b64encode(encode(_small(images[index]), "png")).decode()
            label = f"{scores[index]:+.3f}" if len(scores) else f"candidate {index}"
            cells.append(
                f'<figure style="margin:4px;font:12px sans-serif">'
                f'<img alt="candidate {index}" src="data:image/png;base64,{source}" style="{border}">'
                f"<figcaption>{label}{' best' if index == best_index else ''}</figcaption></figure>"
            )
    left = count - len(images)
    note = f"<div>{left} candidates are not decoded; <code>.candidates</code> makes them.</div>" if left else ""
    return f'<div><bdi>{escape(text)}</bdi><div style="display:flex;flex-wrap:wrap">{"".join(cells)}</div>{note}</div>'


def save(
    folder: str | Path, text: str, images: Mapping[int, Image], rows: Sequence[Mapping[str, Any]], best_index: int
) -> Path:
    """Writes `best.png`, `candidate_00003.png` of each decoded candidate, and `result.json`; returns the folder.

    Raises RunError where the disk refuses.
    """
    folder = Path(folder)
    for index, image in images.items():
        write_bytes(folder / f"candidate_{index:05d}.png", encode(image, "png"))
    write_bytes(folder / "best.png", encode(images[best_index], "png"))
    write_json(folder / "result.json", {"prompt": text, "best_index": best_index, "candidates": list(rows)})
    return folder


def plot(text: str, images: Mapping[int, Image], scores: Sequence[float], best_index: int, count: int) -> Figure:
    """A matplotlib figure: decoded candidates in score order with their scores, the winner framed."""
    from matplotlib.figure import Figure

    shown = [index for index in order(scores, count) if index in images]
    across = min(ACROSS, len(shown))
    down = -(-len(shown) // across)
    figure = Figure(figsize=(1.5 * max(across, 3), 1.75 * down + 0.4), layout="constrained")
    for place, index in enumerate(shown, start=1):
        axes = figure.add_subplot(down, across, place)
        axes.imshow(images[index])
        axes.set(xticks=[], yticks=[])
        axes.set_xlabel(f"{scores[index]:+.3f}" if len(scores) else f"candidate {index}", fontsize=8)
        for spine in axes.spines.values():
            spine.set(color=FRAME, linewidth=3, visible=index == best_index)
    figure.suptitle(text, fontsize=9, parse_math=False, wrap=True)
    return figure


def _small(image: Image) -> Image:
    small = image.copy()
    small.thumbnail((SIDE, SIDE))
    return small
