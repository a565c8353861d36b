"""The keys that say which candidates are kept: `selection`, `rerank`, `ensemble`; and which of them go together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from vhs.select import Rule, plays

if TYPE_CHECKING:
    from vhs.config.run import RunConfig

PLAIN, COUNTED = ("argmax", "random_yes"), ("top_k", "tournament")


def _selection(value: Any) -> Any:
    counted = isinstance(value, dict) and len(value) == 1 and next(iter(value)) in COUNTED
    if (counted and _count(next(iter(value.values())))) or (isinstance(value, str) and value in PLAIN):
        return value
    raise PydanticCustomError("selection", "argmax, random_yes, {top_k: 4} or {tournament: 4} is right")


def _rerank(value: Any) -> Any:
    if not isinstance(value, (dict, str, list, int)) or (
        isinstance(value, dict)
        and set(value) == {"verifier", "keep"}
        and isinstance(value["verifier"], str)
        and _count(value["keep"])
    ):
        return value
    raise PydanticCustomError("rerank", "{verifier: <name>, keep: <number of candidates>} is right")


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


SelectionKey = Annotated[str | dict[str, int], BeforeValidator(_selection)]
OneRerank = BeforeValidator(_rerank)


def rule_of(value: str | dict[str, int]) -> Rule:
    """The rule that a value of `selection` names."""
    return Rule(value) if isinstance(value, str) else Rule(*next(iter(value.items())))


def conflicts(config: RunConfig) -> Iterable[tuple[str, str]]:
    """(key, what is wrong and what would be right) for what cannot be kept."""
    rule, count = config.rule, config.num_samples
    if config.ensemble and (config.latent_verifier_name or config.latent_verifier_path):
        yield "ensemble", "names the verifiers; leave latent_verifier_name and latent_verifier_path out"
    if config.ensemble and not config.latent_verifier:
        yield "ensemble", "names verifiers, but latent_verifier is false"
    if config.ensemble and rule.name == "random_yes":
        yield "selection", "random_yes needs answers, and an ensemble gives a mean; set selection: argmax"
    if config.rerank is not None:
        if not config.latent_verifier:
            yield "rerank", "needs a first verifier, but latent_verifier is false"
        if config.rerank.keep > count:
            yield "rerank", f"keep is {config.rerank.keep}, but there are {count} candidates; 1 to {count} can be kept"
        if config.imgs_path:
            yield "rerank", "finishes what the first verifier keeps; pictures on disk are finished: name one verifier"
        count = config.rerank.keep
    yield from _stop_conflicts(config)
    if rule.k > count:
        yield "selection", f"{rule.name}: {rule.k} of {count} candidates; 1 to {count} can be kept"
    if rule.name == "tournament" and not plays(count, rule.k):
        yield (
            "selection",
            f"a tournament of {count} candidates cannot leave {rule.k}; {count}/{rule.k} must be a power of two",
        )
    if rule.k > 1 and not config.latent_verifier:
        yield "selection", f"{rule.name} needs scores, but latent_verifier is false"


def _stop_conflicts(config: RunConfig) -> Iterable[tuple[str, str]]:
    """What an adaptive number of candidates does not go with."""
    if config.stop_when is None:
        given = {"min_samples": config.min_samples != 1, "max_samples": config.max_samples is not None}
        for name in (name for name, there in given.items() if there):
            yield name, "bounds the candidates of stop_when, which is not given"
        return
    least = max(config.rule.k, config.rerank.keep if config.rerank else 1)
    if not config.latent_verifier or config.ensemble or not config.generates:
        yield (
            "stop_when",
            "needs candidates that are made and scored one by one: one verifier, no ensemble or imgs_path",
        )
    if config.generation_mode == "dev":
        yield "stop_when", "saves candidates in prod; generation_mode: dev shows all of them"
    if config.rule.name not in ("argmax", "top_k"):
        yield "stop_when", f"goes with selection: argmax or top_k, not {config.rule.name}, which needs all candidates"
    if not least <= config.min_samples <= config.num_samples:
        yield "min_samples", f"{config.min_samples} is out of range; {least} to {config.num_samples} is right here"
    if config.budget_ms is not None:
        yield "stop_when", "and budget_ms both settle the number of candidates; give one of them"
