"""Pictures inside a page: WebP, as large as all of them together may be."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

BUDGET = 40_000_000
"""Bytes of WebP in one page: 53 MB in base64, so that a page stays under 60 MB."""
LADDER = ((512, 92), (512, 80), (384, 80), (256, 75), (192, 70), (160, 60), (128, 50), (96, 45), (64, 40))
"""(longest side in pixels, WebP quality), best first."""
SAMPLE = 96


@dataclass(frozen=True)
class Thumbnail:
    """One encoded picture; `width` and `height` are the original's."""

    data: bytes
    width: int
    height: int


def thumbnails(files: Sequence[Path], budget: int = BUDGET) -> list[Thumbnail | None]:
    """One per file, None for a file that is missing or no picture, together about `budget` bytes at most."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        side, quality = _setting(files, budget)
        return list(pool.map(lambda file: thumbnail(file, side, quality), files))


def thumbnail(file: Path, side: int, quality: int) -> Thumbnail | None:
    """The picture of a file, never enlarged."""
    try:
        with Image.open(file) as image:
            return _encode(image, side, quality)
    except (OSError, ValueError, SyntaxError):
        return None


def _setting(files: Sequence[Path], budget: int) -> tuple[int, int]:
    """The best setting at which every picture fits, estimated from a sample spread over the run."""
    sample = list(_opened(files[:: max(1, len(files) // SAMPLE)]))
    for side, quality in LADDER[:-1]:
        sizes = [len(_encode(image, side, quality).data) for image in sample]
        if len(files) * sum(sizes) <= budget * max(1, len(sizes)):
            return side, quality
    return LADDER[-1]


def _opened(files: Iterable[Path]) -> Iterable[Image.Image]:
    for file in files:
        try:
            with Image.open(file) as image:
                yield image.convert("RGB")
        except (OSError, ValueError, SyntaxError):
            continue


def _encode(image: Image.Image, side: int, quality: int) -> Thumbnail:
    width, height = image.size
    small = image.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    small.save(stream, "WEBP", quality=quality, method=2)
    return Thumbnail(stream.getvalue(), width, height)
