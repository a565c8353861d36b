"""Sizes and pixels are mmdet's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from vhs.geneval.preprocess import MEAN, STD, prepare, resized_size


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (1024, 1024, (800, 800)),
        (480, 640, (800, 1067)),
        (640, 480, (1067, 800)),
        (500, 2000, (333, 1333)),
        (1, 1, (800, 800)),
        (8000, 8000, (800, 800)),
    ],
)
def test_resized_size_keeps_the_ratio_within_long_and_short_side(height, width, expected):
    assert resized_size(height, width, (1333, 800)) == expected


def bilinear(array: np.ndarray, height: int, width: int) -> np.ndarray:
    """Half-pixel bilinear interpolation with edges repeated, in float64, by its definition."""

    def weights(new: int, old: int):
        at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        low = np.floor(at).astype(int)
        return low, np.minimum(low + 1, old - 1), at - low

    y0, y1, fy = weights(height, array.shape[0])
    x0, x1, fx = weights(width, array.shape[1])
    fy, fx = fy[:, None, None], fx[None, :, None]
    top = array[y0][:, x0] * (1 - fx) + array[y0][:, x1] * fx
    bottom = array[y1][:, x0] * (1 - fx) + array[y1][:, x1] * fx
    return top * (1 - fy) + bottom * fy


@pytest.mark.parametrize("original", [(37, 53), (370, 530)])
def test_pixels_are_bilinear_without_antialias_normalised_and_padded_right_and_below(original):
    array = np.random.default_rng(0).integers(0, 256, (*original, 3), dtype=np.uint8)
    prepared = prepare(Image.fromarray(array), (100, 60))
    height, width = prepared.resized
    assert (height, width) == (60, 86)
    assert prepared.padded == (64, 96)
    expected = (bilinear(array.astype(np.float64), height, width) - MEAN) / STD
    found = prepared.pixels[:, :height, :width].permute(1, 2, 0).numpy()
    assert np.abs(found - expected).max() < 1e-5
    assert torch.all(prepared.pixels[:, height:] == 0) and torch.all(prepared.pixels[:, :, width:] == 0)


def test_a_picture_of_the_right_size_is_not_resized():
    array = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    prepared = prepare(Image.fromarray(array), (64, 64))
    assert prepared.resized == prepared.original == prepared.padded == (64, 64)
    assert torch.allclose(prepared.pixels[0] * STD[0] + MEAN[0], torch.from_numpy(array[..., 0]).float(), atol=1e-4)


def test_pixels_are_made_where_they_are_needed():
    prepared = prepare(Image.new("RGB", (8, 4)), (64, 32), "meta")
    assert prepared.pixels.device.type == "meta" and prepared.padded == (32, 64)


def test_a_side_that_would_vanish_is_an_error():
    with pytest.raises(ValueError, match="8000 x 1 pixels: too thin"):
        prepare(Image.new("RGB", (8000, 1)), (1333, 800))
