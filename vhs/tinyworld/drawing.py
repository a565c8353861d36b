"""Pictures and instance masks of scenes, drawn at four times the size and reduced, so that edges are anti-aliased."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from vhs.tinyworld.scenes import SIZE, Scene, SceneObject

SUPERSAMPLING = 4


def _polygon(points: Sequence[tuple[float, float]], obj: SceneObject) -> list[tuple[float, float]]:
    """Unit-circle points (y up) rotated, scaled and moved to the object, at the drawing size."""
    angle = math.radians(obj.rotation)
    cos, sin = math.cos(angle), math.sin(angle)
    moved = [(obj.x + obj.radius * (x * cos - y * sin), obj.y - obj.radius * (x * sin + y * cos)) for x, y in points]
    return [(SUPERSAMPLING * x, SUPERSAMPLING * y) for x, y in moved]


def _star() -> list[tuple[float, float]]:
    radii = [1.08 if i % 2 == 0 else 0.48 for i in range(10)]
    return [(r * math.sin(math.pi * i / 5), r * math.cos(math.pi * i / 5)) for i, r in enumerate(radii)]


def _heart() -> list[tuple[float, float]]:
    ts = np.linspace(0, 2 * math.pi, 48, endpoint=False)
    x = 16 * np.sin(ts) ** 3
    y = 13 * np.cos(ts) - 5 * np.cos(2 * ts) - 2 * np.cos(3 * ts) - np.cos(4 * ts)
    return list(zip(x / 16.5, (y + 2) / 16.5, strict=True))


def _moon() -> list[tuple[float, float]]:
    outer = [(math.cos(a), math.sin(a)) for a in np.linspace(math.radians(55), math.radians(305), 40)]
    start, end = outer[-1], outer[0]
    centre, radius = (0.42, 0.0), math.hypot(end[0] - 0.42, end[1])
    a0 = math.atan2(start[1] - centre[1], start[0] - centre[0]) % (2 * math.pi)
    a1 = math.atan2(end[1] - centre[1], end[0] - centre[0]) % (2 * math.pi)
    inner = [(centre[0] + radius * math.cos(a), centre[1] + radius * math.sin(a)) for a in np.linspace(a0, a1, 30)]
    return [(x + 0.15, y) for x, y in outer + inner]


_OUTLINES = {
    "square": [(-0.82, 0.82), (0.82, 0.82), (0.82, -0.82), (-0.82, -0.82)],
    "triangle": [(0.0, 1.05), (0.98, -0.75), (-0.98, -0.75)],
    "star": _star(),
    "heart": _heart(),
    "cross": [(a, b) for a, b in [(-0.32, 1), (0.32, 1), (0.32, 0.32), (1, 0.32), (1, -0.32), (0.32, -0.32), (0.32, -1),
                                  (-0.32, -1), (-0.32, -0.32), (-1, -0.32), (-1, 0.32), (-0.32, 0.32)]],
    "moon": _moon(),
}  # fmt: skip


def _draw(obj: SceneObject) -> Image.Image:
    """The object's coverage at the drawing size, an 8-bit image of 0 and 255."""
    side = SIZE * SUPERSAMPLING
    canvas = Image.new("L", (side, side), 0)
    draw = ImageDraw.Draw(canvas)
    if obj.shape in _OUTLINES:
        draw.polygon(_polygon(_OUTLINES[obj.shape], obj), fill=255)
        return canvas
    centre = (SUPERSAMPLING * obj.x, SUPERSAMPLING * obj.y)
    draw.circle(centre, SUPERSAMPLING * obj.radius, fill=255)
    if obj.shape == "ring":
        draw.circle(centre, SUPERSAMPLING * obj.radius * 0.52, fill=0)
    return canvas


def render(scene: Scene) -> tuple[Image.Image, np.ndarray]:
    """The picture (64 x 64 RGB) and the instance masks (n, 64, 64) bool, in the order of `scene.objects`."""
    picture = np.broadcast_to(np.array(scene.background, dtype=np.float64), (SIZE, SIZE, 3))
    masks = np.zeros((len(scene.objects), SIZE, SIZE), dtype=bool)
    for i, obj in enumerate(scene.objects):
        share = coverage(obj)
        picture = picture * (1 - share[..., None]) + np.array(obj.rgb) * share[..., None]
        masks[i] = share >= 0.5
    return Image.fromarray(np.rint(picture).astype(np.uint8)), masks


def coverage(obj: SceneObject) -> np.ndarray:
    """(64, 64) float: the share of each pixel that the object covers."""
    return np.asarray(_draw(obj).reduce(SUPERSAMPLING), dtype=np.float64) / 255


def covered(obj: SceneObject, side: int) -> np.ndarray:
    """(side, side) bool: the tokens of a latent of that side whose centres the object's radius covers."""
    centre = (np.arange(side) + 0.5) * SIZE / side
    return (centre[None, :] - obj.x) ** 2 + (centre[:, None] - obj.y) ** 2 <= obj.radius**2
