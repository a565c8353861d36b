"""Picture files: read as every model here sees them (8-bit RGB, upright), and written as a run saves them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vhs.errors import ImageError

if TYPE_CHECKING:
    import torch

Picture = Image.Image | str | Path
PILLOW_FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}


def encode(image: Image.Image, fmt: str) -> bytes:
    """A picture file's bytes: Pillow's defaults, as in the release."""
    stream = io.BytesIO()
    image.save(stream, PILLOW_FORMATS[fmt])
    return stream.getvalue()


def decode(data: bytes, name: str) -> Image.Image:
    """The picture that a file holds, as `open_picture` reads it. Raises ImageError with `name`."""
    try:
        return to_rgb(Image.open(io.BytesIO(data)))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageError(f"{name}: damaged or truncated picture ({error}); make it again") from None


def from_pixels(pixels: torch.Tensor) -> list[Image.Image]:
    """Pictures of a decoder's pixels (N, 3, H, W) in [-1, 1], which are cut to that. Rounded to 8 bits on their device,
    to the values that diffusers' `VaeImageProcessor.postprocess` gives: a GPU then sends a quarter of the bytes, or
    half."""
    levels = (255 * (pixels * 0.5 + 0.5).clamp(0, 1).float()).round()
    rows = levels.byte().permute(0, 2, 3, 1).contiguous()  # as a picture has them, before they leave the device
    return [Image.fromarray(picture) for picture in rows.cpu().numpy()]


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


class Pictures(Sequence):
    """Pictures and picture files as upright 8-bit RGB, each read when it is asked for: a thousand are never in memory
    at once. Raises ImageError, as `open_picture` does."""

    def __init__(self, pictures: Sequence[Picture]) -> None:
        self.given = list(pictures)

    def __len__(self) -> int:
        return len(self.given)

    def __getitem__(self, which):
        return [rgb(one) for one in self.given[which]] if isinstance(which, slice) else rgb(self.given[which])


def rgb(picture: Picture) -> Image.Image:
    """A picture, or what a file holds, as upright 8-bit RGB. Raises ImageError, as `open_picture` does."""
    return to_rgb(picture) if isinstance(picture, Image.Image) else open_picture(picture)
