"""Picture files as bytes: what is saved, and what is judged again from what was saved."""

from __future__ import annotations

import io

from PIL import Image

from vhs.errors import ImageError

PILLOW_FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}


def encode(image: Image.Image, fmt: str) -> bytes:
    """A picture file's bytes: Pillow's defaults, as in the release."""
    stream = io.BytesIO()
    image.save(stream, PILLOW_FORMATS[fmt])
    return stream.getvalue()


def decode(data: bytes, name: str) -> Image.Image:
    """The picture that a file holds, RGB. Raises ImageError with `name`."""
    try:
        return Image.open(io.BytesIO(data)).convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:
        raise ImageError(f"{name}: damaged or truncated picture ({error}); make it again") from None
