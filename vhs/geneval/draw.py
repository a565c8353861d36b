"""A verdict drawn on its picture, for people who want to look."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vhs.records import Verdict

SIDE = 512
"""Pictures smaller than this are enlarged by a whole factor, so that the words can be read."""
COLORS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#f032e6", "#9a6324")
"""One colour per class, in order of appearance."""


def draw_verdict(image: Image.Image, verdict: Verdict, prompt: str = "") -> Image.Image:
    """The picture with each object's mask, box, class, score and, where asked for, colour; below it the prompt, the
    verdict and the reason."""
    factor = max(1, SIDE // max(image.size))
    labels = list(dict.fromkeys(found.label for found in verdict.objects))
    paint = {label: COLORS[index % len(COLORS)] for index, label in enumerate(labels)}
    canvas = image.convert("RGB")
    for found in verdict.objects:
        if found.mask is not None:
            canvas = _tint(canvas, found.mask, paint[found.label])
    canvas = canvas.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(canvas)
    for index, found in enumerate(verdict.objects):
        box = [side * factor for side in found.box]
        draw.rectangle(
            [box[0], box[1], max(box[0], box[2] - 1), max(box[1], box[3] - 1)], outline=paint[found.label], width=2
        )
        words = " ".join(filter(None, [verdict.colors.get(index), found.label, f"{found.score:.2f}"]))
        _label(draw, (box[0] + 2, box[1] + 2), words, paint[found.label])
    lines = [prompt, "correct" if verdict.correct else "wrong", *verdict.reason.splitlines()]
    return _with_footer(canvas, [line for line in lines if line], "#e8f6e8" if verdict.correct else "#fbe6e6")


def _tint(image: Image.Image, mask: np.ndarray, color: str) -> Image.Image:
    layer = Image.new("RGB", image.size, color)
    return Image.composite(Image.blend(image, layer, 0.2), image, Image.fromarray(mask))


def _label(draw: ImageDraw.ImageDraw, corner: tuple[float, float], words: str, color: str) -> None:
    draw.rectangle(draw.textbbox(corner, words, font=_font()), fill=color)
    draw.text(corner, words, fill="white", font=_font())


def _with_footer(image: Image.Image, lines: Sequence[str], background: str) -> Image.Image:
    height = 18 * len(lines) + 8
    whole = Image.new("RGB", (image.width, image.height + height), background)
    whole.paste(image, (0, 0))
    draw = ImageDraw.Draw(whole)
    for row, line in enumerate(lines):
        draw.text((6, image.height + 4 + 18 * row), line, fill="black", font=_font())
    return whole


def _font() -> ImageFont.ImageFont:
    return ImageFont.load_default(13)
