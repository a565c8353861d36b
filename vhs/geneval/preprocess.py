"""mmdet's test pipeline for Mask2Former, in torch: resize, normalise, pad."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
DIVISOR = 32


@dataclass(frozen=True)
class Prepared:
    """One picture for the network: `pixels` (3, H, W) float32 padded to multiples of 32 right and below, `resized`
    (h, w) within it, and `original` (h, w) of the picture."""

    pixels: torch.Tensor
    resized: tuple[int, int]
    original: tuple[int, int]

    @property
    def padded(self) -> tuple[int, int]:
        """(H, W) of `pixels`."""
        return self.pixels.shape[-2], self.pixels.shape[-1]


def resized_size(height: int, width: int, size: Sequence[int]) -> tuple[int, int]:
    """(h, w) under mmdet's keep-ratio rule: as large as fits `size` = (long side, short side), halves round up."""
    scale = min(max(size) / max(height, width), min(size) / min(height, width))
    return int(height * scale + 0.5), int(width * scale + 0.5)


def prepare(image: Image.Image, size: Sequence[int], device: torch.device | str = "cpu") -> Prepared:
    """An RGB picture as the network's input; raises ValueError where one side would vanish.

    The resize is bilinear without antialiasing, in float64: OpenCV's result to 1e-4 grey levels, where float32 drifts
    by 0.03.
    """
    original = (image.height, image.width)
    resized = resized_size(*original, size)
    if 0 in resized:
        raise ValueError(f"{image.width} x {image.height} pixels: too thin to be resized to {max(size)} x {min(size)}")
    # RGB: mmdet reads BGR and turns it round before it normalises, so MEAN and STD are in this order.
    pixels = torch.from_numpy(np.array(image)).to(device).permute(2, 0, 1)
    if resized != original:
        pixels = F.interpolate(pixels[None].double(), size=resized, mode="bilinear")[0]
    pixels = pixels.float()
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (MEAN, STD))
    # Padding comes after normalising, so that the border is the mean colour, not black.
    height, width = (-side % DIVISOR for side in resized)
    return Prepared(F.pad((pixels - mean) / std, (0, width, 0, height)), resized, original)
