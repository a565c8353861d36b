"""label.py's task `clip_score`: how well pictures and texts fit, of original pairs and of collected pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from tqdm import tqdm

from vhs.device import resolve_device
from vhs.errors import ConfigError
from vhs.files import as_json, read_form
from vhs.paths import expanded, find
from vhs.pictures import open_picture
from vhs.training.data.labels import labelled_sets
from vhs.training.data.store import CollectedSet
from vhs.training.data.tasks import ClipScoreTask
from vhs.training.made import REMEDY, Made, say_done, sets_hashes

if TYPE_CHECKING:
    from PIL.Image import Image

    from vhs.training.data.language import ClipScorer

Say = Callable[[str], None]
Pair = tuple[Callable[[], "Image"], str]
"""How a picture is read, and its text."""


@dataclass(frozen=True)
class ClipScores:
    """Mean CLIP-Score and number of pairs: of the original pairs, of new pictures with prompts and with captions."""

    model: str
    scores: Mapping[str, tuple[float, int]]

    def line(self) -> str:
        parts = (f"{kind} {mean:.1f} ({pairs} pairs)" for kind, (mean, pairs) in self.scores.items())
        return f"CLIP-Score with {self.model}: {', '.join(parts)}"


def run_clip_score(config: ClipScoreTask, say: Say) -> ClipScores:
    """Mean CLIP-Score of the original pairs where they are given, and of the collected pictures with their prompts
    and, where there are any, with their captions: `captions` against `original` is the paper's 73.5 against 70.5."""
    sets = labelled_sets(config.data)
    if config.output is None:
        return ClipScores(config.model, _mean_scores(config, sets))
    made = Made.of(config, [expanded(config.output)], sets_hashes(sets, {"captions": config.captions}))
    with made.lock():
        if made.done():
            say_done(made, say)
            scores = read_form(made.files[0], dict[str, list[float]], ConfigError, REMEDY)
        else:
            scores = _mean_scores(config, sets)
            made.write({made.files[0]: as_json(scores)})
    return ClipScores(config.model, scores)


def _mean_scores(config: ClipScoreTask, sets: Sequence[CollectedSet]) -> dict[str, tuple[float, int]]:
    from vhs.training.data.language import load_clip_scorer

    pairs = _pairs(config, sets)
    scorer = load_clip_scorer(config.model, resolve_device(config.device))
    scores = {kind: _clip_scores(scorer, found, kind, config.batch) for kind, found in pairs.items()}
    return {kind: (sum(found) / len(found), len(found)) for kind, found in scores.items()}


def _pairs(config: ClipScoreTask, sets: Sequence[CollectedSet]) -> dict[str, list[Pair]]:
    """What each mean is over: how a picture is read, and its text."""
    from vhs.training.data.labels import read_captions
    from vhs.training.data.prompt_sets import read_llava_pairs

    found: dict[str, list[Pair]] = {}
    if config.pairs is not None:
        original = read_llava_pairs(find(config.pairs), find(config.pairs_pictures), config.limit)
        found["original"] = [(partial(open_picture, path), caption) for path, caption in original]
    files = {"prompts": None} if config.captions is None else {"prompts": None, "captions": config.captions}
    for kind, file in files.items():
        found[kind] = []
        for data in sets:
            said = read_captions(data, file)
            found[kind] += [(partial(data.picture, index), said[index]) for index in sorted(said)[: config.limit]]
    return found


def _clip_scores(scorer: ClipScorer, pairs: Sequence[Pair], kind: str, batch: int) -> list[float]:
    scores: list[float] = []
    with tqdm(range(0, len(pairs), batch), desc=f"{kind}, batches") as starts:
        for start in starts:
            part = pairs[start : start + batch]
            scores += scorer([picture() for picture, _ in part], [text for _, text in part])
    return scores
