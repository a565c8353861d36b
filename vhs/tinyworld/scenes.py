"""Scenes of coloured shapes: captions in GenEval's templates, GenEval's metadata, what is where.

A scene is 64 px square: one to four objects on a muted grey. Objects never touch. Everything is a function of a seed.

Combinations held out from every training stage (`held_out` says which captions):
- colors: 16 (shape, colour) pairs, two per shape, in no caption and no scene that is drawn for training;
- position: 22 of the 112 (shape, left of / above, shape) relations, in no caption, in either wording; a picture of
  "a star and a ring" may show one;
- color_attr: every caption with a held-out pair, and a tenth of all others.
Single, two-object and counting captions are too few to hold out: there only the seed is new.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vhs.geneval.rules import judge
from vhs.records import TAGS, Detection, Verdict

SIZE = 64
SHAPES = ("circle", "square", "triangle", "star", "heart", "cross", "ring", "moon")
COLORS = {
    "red": (222, 38, 38),
    "orange": (250, 140, 20),
    "yellow": (250, 228, 40),
    "green": (34, 160, 60),
    "blue": (40, 76, 225),
    "purple": (132, 40, 176),
    "pink": (252, 156, 200),
    "brown": (112, 62, 22),
    "black": (14, 14, 14),
    "white": (248, 248, 248),
}
"""GenEval's ten colours, as drawn; each object's colour is jittered by at most `COLOR_JITTER` grey levels."""
COLOR_JITTER = 8
BACKGROUNDS = ((128, 134, 140), (136, 130, 122), (122, 132, 124))
"""Muted greys on which every one of the ten colours stands out."""
RELATIONS = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}
"""Direction from the second object of a position caption to the first, in image axes (y points down)."""
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
NUMBERS = {2: "two", 3: "three", 4: "four"}
TAG_WEIGHTS = {"single_object": 1, "two_object": 2, "counting": 2, "colors": 1, "position": 3, "color_attr": 3}
"""How often each tag is drawn for training: harder captions more often."""


@dataclass(frozen=True)
class SceneObject:
    """`shape` and `color` by name, centre and radius in pixels, the colour as drawn, the rotation in degrees."""

    shape: str
    color: str
    x: float
    y: float
    radius: float
    rgb: tuple[int, int, int]
    rotation: float = 0.0


@dataclass(frozen=True)
class Scene:
    """A caption, GenEval's record for it, and the objects that make it true. `seed` made it."""

    caption: str
    metadata: dict[str, Any]
    objects: tuple[SceneObject, ...]
    background: tuple[int, int, int]
    seed: int


# --------------------------------------------------------------------------------------------------------- held out


def _digest(*words: str) -> int:
    return int.from_bytes(hashlib.sha256("|".join(words).encode()).digest()[:4], "big")


def _held_out_pairs() -> frozenset[tuple[str, str]]:
    colors = list(COLORS)
    return frozenset((s, colors[(3 * i + step) % 10]) for i, s in enumerate(SHAPES) for step in (0, 5))


HELD_OUT_PAIRS = _held_out_pairs()


def canonical_relation(first: str, relation: str, second: str) -> tuple[str, str, str]:
    """The same arrangement said with "left of" or "above": "b right of a" is "a left of b"."""
    if relation in ("right of", "below"):
        return second, OPPOSITE[relation], first
    return first, relation, second


def _held_out_relations() -> frozenset[tuple[str, str, str]]:
    every = [(a, r, b) for r in ("left of", "above") for a in SHAPES for b in SHAPES if a != b]
    return frozenset(sorted(every, key=lambda triple: _digest(*triple))[:22])


HELD_OUT_RELATIONS = _held_out_relations()


def held_out(metadata: dict[str, Any]) -> bool:
    """True where this caption's combination is kept from training."""
    include = metadata["include"]
    pairs = [(item["class"], item["color"]) for item in include if "color" in item]
    if any(pair in HELD_OUT_PAIRS for pair in pairs):
        return True
    if metadata["tag"] == "position":
        second, first = include
        return canonical_relation(first["class"], first["position"][0], second["class"]) in HELD_OUT_RELATIONS
    if metadata["tag"] == "color_attr":
        return _digest("color_attr", *sorted("/".join(pair) for pair in pairs)) % 10 == 0
    return False


# --------------------------------------------------------------------------------------------- captions and metadata


def article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def caption_record(
    tag: str, shapes: Sequence[str], colors: Sequence[str] = (), count: int = 1, relation: str = ""
) -> dict:
    """GenEval's record {tag, include, exclude?, prompt} for one caption, in GenEval's templates and key order."""
    if tag == "single_object":
        return {"tag": tag, "include": [{"class": shapes[0], "count": 1}], "prompt": f"a photo of {article(shapes[0])}"}
    if tag == "two_object":
        text = f"a photo of {article(shapes[0])} and {article(shapes[1])}"
        return {"tag": tag, "include": [{"class": s, "count": 1} for s in shapes], "prompt": text}
    if tag == "counting":
        plural = shapes[0] + ("es" if shapes[0].endswith("s") else "s")
        return {
            "tag": tag,
            "include": [{"class": shapes[0], "count": count}],
            "exclude": [{"class": shapes[0], "count": count + 1}],
            "prompt": f"a photo of {NUMBERS[count]} {plural}",
        }
    if tag == "colors":
        include = [{"class": shapes[0], "count": 1, "color": colors[0]}]
        return {"tag": tag, "include": include, "prompt": f"a photo of {article(colors[0])} {shapes[0]}"}
    if tag == "position":
        include = [{"class": shapes[1], "count": 1}, {"class": shapes[0], "count": 1, "position": [relation, 0]}]
        text = f"a photo of {article(shapes[0])} {relation} {article(shapes[1])}"
        return {"tag": tag, "include": include, "prompt": text}
    if tag == "color_attr":
        include = [{"class": s, "count": 1, "color": c} for s, c in zip(shapes, colors, strict=True)]
        text = " and ".join(f"{article(c)} {s}" for s, c in zip(shapes, colors, strict=True))
        return {"tag": tag, "include": include, "prompt": f"a photo of {text}"}
    raise ValueError(f"{tag!r} is not a GenEval tag")


def all_records(tag: str) -> list[dict]:
    """Every caption of a tag, in a fixed order (color_attr: shapes in both orders, different colours)."""
    ordered = [(a, b) for a in SHAPES for b in SHAPES if a != b]
    if tag == "single_object":
        return [caption_record(tag, [s]) for s in SHAPES]
    if tag == "two_object":
        return [caption_record(tag, pair) for pair in ordered]
    if tag == "counting":
        return [caption_record(tag, [s], count=n) for s in SHAPES for n in NUMBERS]
    if tag == "colors":
        return [caption_record(tag, [s], [c]) for s in SHAPES for c in COLORS]
    if tag == "position":
        return [caption_record(tag, pair, relation=r) for pair in ordered for r in RELATIONS]
    return [caption_record(tag, pair, (c, d)) for pair in ordered for c in COLORS for d in COLORS if c != d]


def records(tag: str, split: str) -> list[dict]:
    """The captions of a tag for `split` "train" or "test"; single, two-object and counting are the same in both."""
    every = all_records(tag)
    if tag in ("single_object", "two_object", "counting"):
        return every
    return [record for record in every if held_out(record) == (split == "test")]


def sample_prompts(count: int, seed: int, split: str = "test", tags: Sequence[str] = TAGS) -> list[dict]:
    """`count` GenEval records, tags in turn, drawn without repetition within a tag until its captions run out."""
    rng = np.random.default_rng(seed)
    queues = {tag: _endless(records(tag, split), rng) for tag in tags}
    return [next(queues[tags[i % len(tags)]]) for i in range(count)]


UNTOUCHED_PER_TAG = 20
DEVELOPMENT = ((300, 2026), (60, 0), (200, 2), (1200, 6))
"""(count, seed) of the held-out prompts that were looked at while the tiny world was made: the check's, the demo's, the
tour's of docs/training.md, and the ablations'."""


def untouched_prompts() -> list[dict]:
    """The third split: 20 held-out captions of each tag, or as many as there are, each once, by a fixed rule.

    Those whose text no development has drawn come first, in the order of a hash. Only color_attr has 20 such; of the
    other tags the development has drawn every caption that there is, and only the candidates' noise is new.
    """
    seen = {record["prompt"] for count, seed in DEVELOPMENT for record in sample_prompts(count, seed)}
    found = []
    for tag in TAGS:
        ranked = sorted(records(tag, "test"), key=lambda r: (r["prompt"] in seen, _digest("untouched", r["prompt"])))
        found += ranked[:UNTOUCHED_PER_TAG]
    return found


def _endless(items: list[dict], rng: np.random.Generator) -> Iterator[dict]:
    while True:
        for i in rng.permutation(len(items)):
            yield items[i]


# ------------------------------------------------------------------------------------------------------------ layout


def _layout(count: int, axis: str, rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """(x, y, radius) of 1 to 4 objects that do not touch; of two, the first is left of or above the second."""

    def jitter(amount: float) -> np.ndarray:
        return rng.uniform(-amount, amount, size=2)

    if count == 1:
        dx, dy = jitter(11)
        return [(32 + dx, 32 + dy, rng.uniform(10, 14))]
    if count == 2:
        (dx0, dy0), (dx1, dy1) = jitter(2), jitter(2)
        radii = rng.uniform(9, 11.5, size=2)
        if axis == "horizontal":
            return [(17 + dx0, 32 + 3 * dy0, radii[0]), (47 + dx1, 32 + 3 * dy1, radii[1])]
        return [(32 + 3 * dx0, 17 + dy0, radii[0]), (32 + 3 * dx1, 47 + dy1, radii[1])]
    cells = [(17, 17), (47, 17), (17, 47), (47, 47)]
    chosen = sorted(rng.permutation(4)[:count])
    return [(cells[i][0] + dx, cells[i][1] + dy, rng.uniform(8.5, 11)) for i in chosen for dx, dy in [jitter(2.5)]]


def _pick_color(shape: str, rng: np.random.Generator, split: str) -> str:
    names = [c for c in COLORS if split == "test" or (shape, c) not in HELD_OUT_PAIRS]
    return names[rng.integers(len(names))]


def make_scene(record: dict, seed: int, split: str = "train") -> Scene:
    """A scene that makes `record` true. In the split "train" no held-out (shape, colour) pair is drawn."""
    rng = np.random.default_rng([seed, 7])
    shapes, colors = [], []
    for item in record["include"]:
        for _ in range(item["count"]):
            shapes.append(item["class"])
            colors.append(item.get("color") or _pick_color(item["class"], rng, split))
    if record["tag"] == "counting":  # one colour for all, as photographs of "three stars" have it
        colors = [colors[0]] * len(colors)
    axis, swap = ("horizontal", "vertical")[rng.integers(2)], bool(rng.integers(2))
    if record["tag"] == "position":
        relation = record["include"][1]["position"][0]
        axis = "horizontal" if RELATIONS[relation][1] == 0 else "vertical"
        swap = relation in ("left of", "above")  # include lists the second object first
    if len(shapes) == 2 and swap:
        shapes, colors = shapes[::-1], colors[::-1]
    objects = tuple(
        SceneObject(shape, color, x, y, radius, _jitter_color(color, rng), _rotation(shape, rng))
        for shape, color, (x, y, radius) in zip(shapes, colors, _layout(len(shapes), axis, rng), strict=True)
    )
    background = BACKGROUNDS[rng.integers(len(BACKGROUNDS))]
    background = tuple(int(v) for v in np.array(background) + rng.integers(-6, 7))
    return Scene(record["prompt"], record, objects, background, seed)


def _jitter_color(color: str, rng: np.random.Generator) -> tuple[int, int, int]:
    noisy = np.array(COLORS[color]) + rng.integers(-COLOR_JITTER, COLOR_JITTER + 1, size=3)
    return tuple(int(v) for v in np.clip(noisy, 0, 255))


def _rotation(shape: str, rng: np.random.Generator) -> float:
    return 0.0 if shape in ("circle", "ring") else float(rng.uniform(-10, 10))


def sample_scene(seed: int, split: str = "train") -> Scene:
    """A scene from a seed alone: tag by `TAG_WEIGHTS`, then a caption of `split`, then a picture of it."""
    rng = np.random.default_rng([seed, 3])
    weights = np.array([TAG_WEIGHTS[tag] for tag in TAGS], dtype=float)
    tag = TAGS[rng.choice(len(TAGS), p=weights / weights.sum())]
    choices = _records_cached(tag, split)
    return make_scene(choices[rng.integers(len(choices))], seed, split)


_RECORDS: dict[tuple[str, str], list[dict]] = {}


def _records_cached(tag: str, split: str) -> list[dict]:
    if (tag, split) not in _RECORDS:
        _RECORDS[tag, split] = records(tag, split)
    return _RECORDS[tag, split]


# ---------------------------------------------------------------------------------------------------- what is true


def true_detections(scene: Scene, masks: np.ndarray | None = None) -> list[Detection]:
    """What a perfect detector answers: every object with score 1, its mask and box (without masks: its outline's)."""
    found = []
    for i, obj in enumerate(scene.objects):
        if masks is None:
            box = (obj.x - obj.radius, obj.y - obj.radius, obj.x + obj.radius, obj.y + obj.radius)
            found.append(Detection(obj.shape, 1.0, box))
            continue
        ys, xs = np.nonzero(masks[i])
        box = (float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1))
        found.append(Detection(obj.shape, 1.0, box, masks[i]))
    return found


def true_verdict(record: dict, scene: Scene, masks: np.ndarray | None = None) -> Verdict:
    """GenEval's verdict on a scene by its true objects and colours, whatever caption it was drawn for."""
    found = true_detections(scene, masks)
    colors = {detection.box: obj.color for detection, obj in zip(found, scene.objects, strict=True)}
    return judge(record, found, lambda detection, label: colors[detection.box])


def in_words(color: str, shape: str, x: float, y: float) -> str:
    """An object as the language model is told of it: "a red star top left"."""
    across, down = place_in_words(x, y)
    return f"a {color} {shape} {down} {across}"


def place_in_words(x: float, y: float) -> tuple[str, str]:
    """Where a point lies in the picture, across and down: ("left", "top")."""
    across = "left" if x < 26 else "right" if x > 38 else "center"
    down = "top" if y < 26 else "bottom" if y > 38 else "middle"
    return across, down


# --------------------------------------------------------------------------------------------------------- contrasts


def contrast(record: dict, rng: np.random.Generator) -> dict:
    """A record that differs from `record` in one shape, colour, count or relation."""
    include, tag = record["include"], record["tag"]
    shapes = [item["class"] for item in include]
    colors = [item["color"] for item in include if "color" in item]
    count, relation = include[0]["count"], ""
    if tag == "position":
        shapes, relation = shapes[::-1], include[1]["position"][0]
    changes = (
        ["shape"] + ["color"] * bool(colors) + ["count"] * (tag == "counting") + ["relation"] * (tag == "position")
    )
    change, which = changes[rng.integers(len(changes))], rng.integers(len(shapes))
    if change == "shape":
        shapes[which] = _another(SHAPES, shapes, rng)
    elif change == "color":
        colors[which] = _another(tuple(COLORS), colors, rng)
    elif change == "count":
        count = _another(tuple(NUMBERS), [count], rng)
    else:
        relation = _another(tuple(RELATIONS), [relation], rng)
    return caption_record(tag, shapes, colors, count, relation)


def _another(options: Sequence, used: Sequence, rng: np.random.Generator):
    left = [option for option in options if option not in used]
    return left[rng.integers(len(left))]
