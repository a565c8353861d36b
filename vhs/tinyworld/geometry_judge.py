"""A judge of tiny pictures without a learned part: `python -m vhs.tinyworld.geometry_judge` measures it.

What stands out from the background is cut into connected pieces; a piece has the shape whose drawing it overlaps most
and the palette's nearest colour. The rules are GenEval's; detection and colours are pixels and geometry, so this judge
shares no weight and no training data with the evaluator that labels the candidates.

It calls two shapes that have grown together one piece of no shape, and it sees a piece of few pixels as none.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from vhs.checkpoints.source import Source
from vhs.config.run import RunConfig
from vhs.geneval import rules
from vhs.geneval.metadata import check_metadata
from vhs.geneval.rules import Thresholds
from vhs.records import TAGS, Detection, Verdict, is_geneval
from vhs.tinyworld import recipe
from vhs.tinyworld.drawing import coverage, render
from vhs.tinyworld.scenes import (  # fmt: skip
    COLORS,
    SHAPES,
    SIZE,
    Scene,
    SceneObject,
    contrast,
    make_scene,
    records,
    true_verdict,
)
from vhs.verifiers.registry import Entry
from vhs.verifiers.spec import require_fields

CONTRAST = 40.0
"""Grey levels (the length of the difference in RGB) by which a pixel must leave the background; no colour that scenes
are drawn in is nearer to it than 80."""
SMALLEST = 40
"""Pixels of a piece; the smallest drawn shape has 100."""
OVERLAP = 0.6
"""Of a piece with its shape's drawing; rendered shapes have 0.89 and more."""
FRAME = 3
"""Pixels at the margin whose median is the background."""
GRID, EXTENT = 25, 1.2
"""Pieces and drawings are compared on GRID x GRID points that reach EXTENT times the root of their area from their
centre."""
THRESHOLDS = Thresholds(confidence=OVERLAP, counting=OVERLAP)
FIRST_SCENE = 1_600_000_000


@dataclass(frozen=True)
class Piece:
    """One object: its shape, with the overlap as the score, and the name of its colour."""

    detection: Detection
    color: str


def find_pieces(image: Image.Image) -> list[Piece]:
    """The objects of an RGB picture, whatever their overlap; another size than 64 px is brought to it."""
    if image.size != (SIZE, SIZE):
        image = image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    pixels = np.asarray(image, dtype=np.float64)
    background = _background(pixels)
    away = np.linalg.norm(pixels - background, axis=-1)
    # Half of the strongest contrast nearby is where an object covers half of a pixel.
    inside = (away > CONTRAST) & (away > 0.5 * ndimage.maximum_filter(away, size=7))
    labels, count = ndimage.label(inside)
    masks = [labels == label for label in range(1, count + 1)]
    return [_piece(pixels, background, inside, mask) for mask in masks if mask.sum() >= SMALLEST]


def _background(pixels: np.ndarray) -> np.ndarray:
    frame = np.ones(pixels.shape[:2], dtype=bool)
    frame[FRAME:-FRAME, FRAME:-FRAME] = False
    return np.median(pixels[frame], axis=0)


def _piece(pixels: np.ndarray, background: np.ndarray, inside: np.ndarray, mask: np.ndarray) -> Piece:
    core = ndimage.binary_erosion(mask)
    color = np.median(pixels[core if core.any() else mask], axis=0)
    step = color - background
    share = np.clip((pixels - background) @ step / (step @ step), 0, 1)  # of each pixel that the object covers
    share = share * (ndimage.binary_dilation(mask) & (mask | ~inside))
    overlaps = overlap_by_shape(share)
    shape = max(overlaps, key=overlaps.get)
    rows, columns = np.nonzero(mask)
    box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    return Piece(Detection(shape, overlaps[shape], tuple(float(side) for side in box), mask), nearest_color(color))


def nearest_color(rgb: np.ndarray) -> str:
    """The palette's nearest colour, by distance in RGB."""
    return min(COLORS, key=lambda name: float(np.linalg.norm(rgb - np.array(COLORS[name]))))


def overlap_by_shape(share: np.ndarray) -> dict[str, float]:
    """Shape -> the largest overlap (intersection over union of coverages) of a piece with that shape's drawings."""
    names, drawings = _drawings()
    piece = _normalised(share)
    overlaps = np.minimum(drawings, piece).sum((1, 2)) / np.maximum(drawings, piece).sum((1, 2))
    return {shape: float(overlaps[names == shape].max()) for shape in SHAPES}


def _normalised(share: np.ndarray) -> np.ndarray:
    """(GRID, GRID) a coverage around its centre, at a size that depends on its area alone."""
    area = share.sum()
    centre = [(share * axis).sum() / area for axis in np.indices(share.shape)]
    reach = np.linspace(-EXTENT, EXTENT, GRID) * np.sqrt(area)
    points = np.meshgrid(centre[0] + reach, centre[1] + reach, indexing="ij")
    return ndimage.map_coordinates(share, points, order=1)


@cache
def _drawings() -> tuple[np.ndarray, np.ndarray]:
    """(names (n,), coverages (n, GRID, GRID)) of every shape as scenes draw it, in some sizes and rotations, with
    sharp edges and with soft ones, as an autoencoder's are."""
    drawn = []
    for shape in SHAPES:
        turns = (0,) if shape in ("circle", "ring") else (-10, -5, 0, 5, 10)
        for radius, turn in ((radius, turn) for radius in (8.5, 10, 12, 14) for turn in turns):
            share = coverage(SceneObject(shape, "", SIZE / 2, SIZE / 2, radius, (0, 0, 0), turn))
            drawn += [(shape, _normalised(share)), (shape, _normalised(ndimage.gaussian_filter(share, 0.9)))]
    return np.array([shape for shape, _ in drawn]), np.stack([share for _, share in drawn])


class GeometryJudge:
    """GenEval's rules on pieces and their colours."""

    def judge_batch(self, images: Sequence[Image.Image], records: Sequence[Mapping[str, Any]]) -> list[Verdict]:
        """One verdict per picture. Raises PromptError for a record with other classes than the eight shapes."""
        for record in records:
            check_metadata(record, SHAPES)
        return [self._verdict(image, record) for image, record in zip(images, records, strict=True)]

    def _verdict(self, image: Image.Image, record: Mapping[str, Any]) -> Verdict:
        pieces = find_pieces(image)
        colors = {id(piece.detection): piece.color for piece in pieces}
        found = [piece.detection for piece in pieces]
        return rules.judge(record, found, lambda one, label: colors[id(one)], thresholds=THRESHOLDS)


@dataclass(frozen=True)
class GeometrySpec:
    """The judge as a run names it: it reads no file."""

    name: str = "geometry"
    sources: tuple[Source, ...] = ()
    downloads: tuple[Source, ...] = ()

    def judges(self, record: Mapping[str, Any]) -> bool:
        return is_geneval(record)

    def check(self, record: Mapping[str, Any], where: str) -> None:
        check_metadata(record, SHAPES, where)

    def fetched(self) -> GeometrySpec:
        return self

    def describe(self) -> dict[str, Any]:
        return {"contrast": CONTRAST, "smallest": SMALLEST, "overlap": OVERLAP}

    def load(self) -> GeometryJudge:
        return GeometryJudge()

    def measures(self, record: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, list[tuple[str, float]]]:
        return {"correct": [(record["tag"], float(fields["correct"]))]}


def resolve_geometry(entry: Entry, config: RunConfig, device: str, dtype: str) -> GeometrySpec:
    """A registry entry of this kind has no fields."""
    require_fields(entry, ())
    return GeometrySpec(entry.name)


# ---------------------------------------------------------------------------------------------------- how exact it is


def measure(scenes: int) -> dict[str, dict[str, float]]:
    """Tag -> on `scenes` fresh rendered scenes of its captions: the share whose shapes and colours are all named
    rightly, of true captions accepted, and of captions that differ in one thing rejected."""
    judge, table = GeometryJudge(), {}
    for tag in TAGS:
        rng, captions, rows = np.random.default_rng(TAGS.index(tag)), records(tag, "test"), []
        for i in range(scenes):
            scene = make_scene(captions[rng.integers(len(captions))], FIRST_SCENE + i, "test")
            rows.append(_outcome(judge, scene, rng))
        table[tag] = dict(zip(("named", "accepted", "rejected"), np.mean(rows, axis=0).tolist(), strict=True))
    return table


def _outcome(judge: GeometryJudge, scene: Scene, rng: np.random.Generator) -> tuple[bool, bool, bool]:
    picture, masks = render(scene)
    seen = sorted((piece.detection.label, piece.color) for piece in find_pieces(picture))
    wrong = scene.metadata
    while true_verdict(wrong, scene, masks).correct:
        wrong = contrast(scene.metadata, rng)
    accepted, mistaken = judge.judge_batch([picture, picture], [scene.metadata, wrong])
    named = seen == sorted((obj.shape, obj.color) for obj in scene.objects)
    return named, accepted.correct, not mistaken.correct


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m vhs.tinyworld.geometry_judge", description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=1000, help="fresh scenes per tag")
    args = parser.parse_args()
    table = measure(args.scenes)
    print(f"{'':14}" + "".join(f"{name:>10}" for name in next(iter(table.values()))))
    for tag, row in table.items():
        print(f"{tag:14}" + "".join(f"{100 * value:10.2f}" for value in row.values()))
    print(json.dumps({"scenes_per_tag": args.scenes, **table}))


if __name__ == "__main__":
    recipe.command(main)
