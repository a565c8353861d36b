"""Pictures as the evaluator sees them: 8-bit RGB, upright."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vhs.errors import ImageError


def open_picture(path: str | Path) -> Image.Image:
    """Reads a picture file as 8-bit RGB with its EXIF rotation applied.

    Raises ImageError, with the file's name, where the file is missing, truncated or no picture.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return to_rgb(image)
    except FileNotFoundError:
        raise ImageError(f"{path}: no such picture") from None
    except UnidentifiedImageError:
        raise ImageError(f"{path}: not a picture; PNG, JPEG or WebP would be right") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageError(f"{path}: damaged or truncated picture ({error}); write it again") from None


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB, upright. 16-bit grey keeps its upper byte and alpha is dropped, as OpenCV's reader does."""
    if image.mode.startswith("I"):
        upper = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255)
        image = Image.fromarray(upper.astype(np.uint8))
    return ImageOps.exif_transpose(image).convert("RGB")
