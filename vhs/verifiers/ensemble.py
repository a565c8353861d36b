"""Several verifiers that read the same candidates as one: the mean of their ranks or of their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vhs import select
from vhs.checkpoints.source import Source
from vhs.errors import ConfigError
from vhs.records import Prompt, Score
from vhs.verifiers.base import Reads, Verifier, ask, blocks_of
from vhs.verifiers.feature_names import named

if TYPE_CHECKING:
    from vhs.verifiers.spec import VerifierSpec


class Ensemble:
    """A verifier whose score is the mean of several's. It must see all candidates of a prompt at once."""

    micro_batch = None

    def __init__(self, verifiers: Sequence[Verifier], reads: Reads, mean: str = "ranks") -> None:
        self.verifiers, self.reads, self.mean = list(verifiers), reads, mean
        self.block = next((one.block for one in verifiers if one.block is not None), None)
        self.blocks = next(filter(None, map(blocks_of, verifiers)), ())
        self.width = next((one.width for one in verifiers if one.width is not None), None)

    def score(self, prompt: str, features: Any) -> Score:
        """Scores of N candidates, without answers."""
        return self.score_prompt(Prompt(0, prompt), features)

    def score_prompt(self, prompt: Prompt, features: Any) -> Score:
        """The same for a member that looks its scores up by the prompt's number."""
        scores = [ask(one, prompt, features).score.tolist() for one in self.verifiers]
        return Score.plain(select.ensemble(scores, self.mean))


@dataclass(frozen=True)
class EnsembleSpec:
    """The members by name; what one of them reads, all but files of scores read."""

    names: tuple[str, ...]
    members: tuple[VerifierSpec, ...]
    mean: str
    kind: str = "ensemble"

    @property
    def reads(self) -> Reads:
        return next((one.reads for one in self.members if one.reads != "nothing"), "nothing")

    @property
    def block(self) -> int | None:
        return next((one.block for one in self.members if one.block is not None), None)

    @property
    def blocks(self) -> tuple[int, ...]:
        return next(filter(None, map(blocks_of, self.members)), ())

    @property
    def width(self) -> int | None:
        return next((one.width for one in self.members if one.width is not None), None)

    @property
    def sources(self) -> tuple[Source, ...]:
        members = zip(self.names, self.members, strict=True)
        return tuple(replace(one, key=f"{name}: {one.key}") for name, spec in members for one in spec.sources)

    @property
    def settings(self) -> dict[str, Any]:
        """What run.json records."""
        return {"mean": self.mean, "members": [getattr(one, "settings", None) for one in self.members]}

    def fetched(self, tokens: int | None) -> EnsembleSpec:
        spec = replace(self, members=tuple(one.fetched(tokens) for one in self.members))
        require_alike(spec)
        return spec

    def require(self, *arguments: Any) -> None:
        """What a member that is a file of scores asks of a run."""
        for one in self.members:
            if hasattr(one, "require"):
                one.require(*arguments)

    def check_prompts(self, prompts: Sequence[Prompt], tokens: int | None) -> None:
        """What a member that has a tokenizer refuses."""
        for one in self.members:
            if hasattr(one, "check_prompts"):
                one.check_prompts(prompts, tokens)

    def load(self, device: str, dtype: str, micro_batch: int | None) -> Verifier:
        return Ensemble([one.load(device, dtype, micro_batch) for one in self.members], self.reads, self.mean)


def require_alike(spec: EnsembleSpec) -> None:
    """Raises ConfigError where the members do not all read the same, or one gives no score."""
    for name, one in zip(spec.names, spec.members, strict=True):
        if one.kind == "none" or getattr(one, "compares", False):
            raise ConfigError(f"ensemble: {name} gives no score")
        if one.reads not in (spec.reads, "nothing") or blocks_of(one) not in (spec.blocks, ()):
            what = " and ".join(
                f"{n} reads {s.reads}" + (f" (block {named(blocks_of(s))})" if blocks_of(s) else "")
                for n, s in zip(spec.names, spec.members, strict=True)
            )
            raise ConfigError(f"ensemble: {what}; verifiers that read the same are needed")
