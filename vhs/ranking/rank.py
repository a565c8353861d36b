"""Pictures of one prompt, ranked by any verifier that reads pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vhs.choosing import score_and_choose
from vhs.config.keys import key
from vhs.config.run import DeviceKeys, VerifierKeys
from vhs.config.yamlfile import build, parse_override
from vhs.device import resolve_device, resolve_dtype
from vhs.errors import ConfigError, ImageError
from vhs.pictures import Picture, Pictures
from vhs.records import Prompt, Score
from vhs.select import Rule, plays
from vhs.verifiers.score_file import PictureScores, ScoreFile
from vhs.verifiers.spec import VerifierSpec, resolve_verifier

if TYPE_CHECKING:
    from vhs.verifiers.base import Verifier


class RankConfig(DeviceKeys, VerifierKeys):
    """What a verifier needs to be loaded without a run."""

    seed: int = key(42, ge=0, lt=2**63)
    """Seed of a verifier that draws."""


@dataclass(frozen=True)
class Ranked:
    """One picture's place: `rank` from 1 within its prompt, `index` its number among those given."""

    rank: int
    index: int
    picture: Picture
    score: float
    p_yes: float | None = None
    p_no: float | None = None
    says_yes: bool | None = None
    picked: bool = False


def rank(
    pictures: Sequence[Picture],
    prompt: str | Prompt,
    verifier: Verifier | str,
    top: int = 1,
    tournament: bool = False,
    **keys: Any,
) -> list[Ranked]:
    """Pictures of one prompt, best first; the best `top` are `picked`.

    Args:
        pictures: PIL pictures or paths.
        verifier: any object with `reads = "image"` and `score(prompt, pictures)`, or a name of the registry.
        tournament: adjacent pairs play until `top` are left (VISA), instead of the highest scores overall.
        keys: configuration keys of the verifier and the device, such as registry="mine.py", device="cuda".

    Raises a VHSError for what cannot be ranked.
    """
    if not pictures:
        raise ImageError("no pictures to rank")
    require_top(top, len(pictures), tournament)
    prompt = Prompt(0, prompt) if isinstance(prompt, str) else prompt
    if isinstance(verifier, str):
        verifier = load_verifier(verifier, **keys)
    if isinstance(verifier, ScoreFile):
        verifier = PictureScores(verifier.file, [Path(picture) for picture in pictures], Path())
    _require_pictures_reader(verifier.reads, "verifier")
    features = pictures if isinstance(verifier, PictureScores) else Pictures(pictures)
    score, chosen = score_and_choose(verifier, prompt, features, Rule("tournament" if tournament else "top_k", top))
    return ranked(pictures, score, chosen.picks)


def ranked(pictures: Sequence[Picture], score: Score, picks: Sequence[int]) -> list[Ranked]:
    """The places of N scored pictures: the picks first, in their order, then the others by score."""
    values = score.score.tolist()
    others = sorted(set(range(len(values))) - set(picks), key=lambda index: (-values[index], index))
    columns = [None if one is None else one.tolist() for one in (score.p_yes, score.p_no, score.correct)]
    return [
        Ranked(
            place,
            index,
            pictures[index],
            values[index],
            *(None if column is None else column[index] for column in columns),
            picked=index in picks,
        )
        for place, index in enumerate([*picks, *others], start=1)
    ]


def resolve_named(name: str | None, keys: Mapping[str, Any]) -> tuple[VerifierSpec, RankConfig]:
    """The spec of a registry entry with its files here, and the configuration that it is loaded under.

    Raises ConfigError for one that does not read pictures.
    """
    given = {"latent_verifier_name": name} if name else {}
    config = build(RankConfig, {**given, **keys}, source="command line")
    if not (config.latent_verifier_name or config.latent_verifier_path or config.ensemble):
        raise ConfigError("verifier: none is named; give one of the registry (run.py --list-verifiers)")
    spec = resolve_verifier(config)
    if spec.kind != "scores":
        _require_pictures_reader(spec.reads, str(config.latent_verifier_name or config.latent_verifier_path))
    return spec.fetched(None), config


def load_verifier(name: str, **keys: Any) -> Verifier:
    """The verifier of this name in the registry, on its device. Raises a VHSError."""
    spec, config = resolve_named(name, keys)
    return load_spec(spec, config)


def load_spec(spec: VerifierSpec, config: RankConfig) -> Verifier:
    """The verifier of `resolve_named`, on its device."""
    device = resolve_device(config.device)
    return spec.load(device, resolve_dtype(config.dtype, device), config.at_once)


def parse_keys(pairs: Sequence[str]) -> dict[str, Any]:
    """`key=value` texts of a command line."""
    return dict(parse_override(pair) for pair in pairs)


def require_top(top: int, count: int, tournament: bool, where: str = "top") -> None:
    """Raises ConfigError where `top` of `count` pictures cannot be kept."""
    if not 1 <= top <= count:
        raise ConfigError(f"{where}: {top} of {count} pictures; 1 to {count} can be kept")
    if tournament and not plays(count, top):
        raise ConfigError(
            f"{where}: a tournament of {count} pictures cannot leave {top}; {count}/{top} must be a power of two"
        )


def _require_pictures_reader(reads: str, name: str) -> None:
    if reads != "image":
        what = "nothing" if reads == "nothing" else f"{reads} features, which pictures do not have"
        raise ConfigError(f"{name}: reads {what}; name a verifier that reads pictures")
