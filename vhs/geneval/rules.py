"""GenEval's rules (arXiv 2310.11513, section 3): pure functions from detections to a verdict.

A picture is correct when every `include` clause is met and no `exclude` clause is. Colours and positions are read off
the most confident objects only. The sentences in `reason` are those of the official evaluator, which scripts out there
parse, one line per unmet clause.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vhs.records import Detection, Verdict

COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
RELATIONS = ("above", "below", "left of", "right of")

ColorOf = Callable[[Detection, str], str]


@dataclass(frozen=True)
class Thresholds:
    """The official evaluator's settings.

    `confidence` and `counting` (tag `counting` only) are scores an object must exceed; `max_objects` is per class;
    an object that overlaps a more confident one of its class by an IoU of `max_overlap` or more is dropped (1: none
    is); `position` is the part of both objects' sizes by which their centres must differ before a relation holds.
    """

    confidence: float = 0.3
    counting: float = 0.9
    max_objects: int = 16
    max_overlap: float = 1.0
    position: float = 0.1

    def for_tag(self, tag: str) -> float:
        """The score that an object must exceed under a prompt of this tag."""
        return self.counting if tag == "counting" else self.confidence

    @property
    def lowest(self) -> float:
        """No object at or below this score can matter to any verdict."""
        return min(self.confidence, self.counting)


def judge(
    metadata: Mapping[str, Any],
    detections: Sequence[Detection],
    color_of: ColorOf,
    *,
    thresholds: Thresholds = Thresholds(),
) -> Verdict:
    """The verdict on one picture.

    `metadata` is GenEval's record (tag, include, exclude, prompt); `detections` are raw, in any order; `color_of` is
    asked once for each object whose colour a clause names, with that clause's class. `Verdict.objects` are the objects
    above the threshold, every class, most confident first within a class.
    """
    objects = count_objects(detections, thresholds.for_tag(metadata["tag"]), thresholds)
    trial = _Trial(objects, color_of, thresholds)
    for clause in metadata["include"]:
        trial.groups.append(trial.include(clause))
    for clause in metadata.get("exclude", ()):
        trial.exclude(clause)
    counted = tuple(found for group in objects.values() for found in group)
    colors = {index: trial.colors[id(found)] for index, found in enumerate(counted) if id(found) in trial.colors}
    return Verdict(not trial.reasons, "\n".join(trial.reasons), counted, colors)


def count_objects(
    detections: Iterable[Detection], confidence: float, thresholds: Thresholds = Thresholds()
) -> dict[str, list[Detection]]:
    """Class -> its objects above `confidence`, most confident first, at most `max_objects` before overlaps go.

    Of equal scores the later detection comes first, as with the official evaluator's reversed sort.
    """
    groups: dict[str, list[Detection]] = {}
    for found in detections:
        if found.score > confidence:
            groups.setdefault(found.label, []).append(found)
    for label, group in groups.items():
        # Not `reverse=True`, which keeps equal scores in their order.
        ranked = sorted(group, key=lambda found: found.score)[::-1][: thresholds.max_objects]
        groups[label] = drop_overlaps(ranked, thresholds.max_overlap)
    return groups


def drop_overlaps(ranked: Sequence[Detection], max_overlap: float) -> list[Detection]:
    """Keep an object unless its IoU with a more confident kept one reaches `max_overlap`; 1 keeps all."""
    if max_overlap == 1:
        return list(ranked)
    kept: list[Detection] = []
    for found in ranked:
        if all(box_iou(found.box, other.box) < max_overlap for other in kept):
            kept.append(found)
    return kept


def box_iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes whose last pixel counts (side = x1 - x0 + 1)."""

    def area(x0: float, y0: float, x1: float, y1: float) -> float:
        return max(x1 - x0 + 1, 0) * max(y1 - y0 + 1, 0)

    shared = area(max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))
    union = area(*a) + area(*b) - shared
    return shared / union if union else 0.0


def relations(box: Sequence[float], target: Sequence[float], threshold: float = 0.1) -> tuple[str, ...]:
    """Where `box` lies relative to `target`: up to two of RELATIONS in the alphabet's order (the official evaluator's
    own order is a set's), none when the centres are too close.

    Per axis, offset' = max(|offset| - threshold (side + target's side), 0) with the offset's sign; a relation holds
    where offset' exceeds half the distance of the centres (section 3.3 of the paper).
    """
    # Centres are the mean of two corners, sides their difference: no + 1 here, unlike in `box_iou`. The official
    # evaluator mixes both conventions too.
    offset = [(box[axis] + box[axis + 2] - target[axis] - target[axis + 2]) / 2 for axis in (0, 1)]
    reach = [threshold * sum(abs(b[axis + 2] - b[axis]) for b in (box, target)) for axis in (0, 1)]
    beyond = [math.copysign(max(abs(o) - r, 0.0), o) for o, r in zip(offset, reach, strict=True)]
    # Also keeps the division below from 0 / 0 where the centres coincide.
    if all(abs(b) < 1e-3 for b in beyond):
        return ()
    dx, dy = (b / math.hypot(*offset) for b in beyond)
    holds = {"left of": dx < -0.5, "right of": dx > 0.5, "above": dy < -0.5, "below": dy > 0.5}
    return tuple(name for name in RELATIONS if holds[name])


@dataclass
class _Trial:
    """What is known while one picture's clauses are gone through, in order."""

    objects: dict[str, list[Detection]]
    color_of: ColorOf
    thresholds: Thresholds
    reasons: list[str] = field(default_factory=list)
    groups: list[list[Detection] | None] = field(default_factory=list)
    """One entry per include clause: the objects that met it, or None. Positions refer to these by index."""
    colors: dict[int, str] = field(default_factory=dict)
    """id(detection) -> the colour that was named."""

    def include(self, clause: Mapping[str, Any]) -> list[Detection] | None:
        """The objects that meet the clause, or None after a reason was noted."""
        label, count = clause["class"], clause["count"]
        # The most confident ones alone: a third object of the right colour does not help two that are asked for.
        found = self.objects.get(label, [])[:count]
        if len(found) < count:
            reason = f"expected {label}>={count}, found {len(found)}"
        else:
            reason = self._color_reason(clause, found) or self._position_reason(clause, found)
        if reason:
            self.reasons.append(reason)
        return None if reason else found

    def exclude(self, clause: Mapping[str, Any]) -> None:
        """Notes a reason when `count` or more objects of the class are there."""
        label, count = clause["class"], clause["count"]
        found = len(self.objects.get(label, ()))
        if found >= count:
            self.reasons.append(f"expected {label}<{count}, found {found}")

    def _color_reason(self, clause: Mapping[str, Any], found: Sequence[Detection]) -> str:
        if "color" not in clause:
            return ""
        wanted, label = clause["color"], clause["class"]
        named = [self.color_of(one, label) for one in found]
        self.colors.update({id(one): color for one, color in zip(found, named, strict=True)})
        if named.count(wanted) >= clause["count"]:
            return ""
        others = ", ".join(f"{named.count(color)} {color}" for color in COLORS if color in named)
        return f"expected {wanted} {label}>={clause['count']}, found {named.count(wanted)} {wanted}; and {others}"

    def _position_reason(self, clause: Mapping[str, Any], found: Sequence[Detection]) -> str:
        if "position" not in clause:
            return ""
        wanted, target = clause["position"]
        targets = self.groups[target]
        if targets is None:
            return f"no target for {clause['class']} to be {wanted}"
        for one in found:
            for other in targets:
                there = relations(one.box, other.box, self.thresholds.position)
                if wanted not in there:
                    return f"expected {clause['class']} {wanted} target, found {' and '.join(there)} target"
        return ""
