"""From N candidates' features to the picks: a verifier's scores, and the rule of `selection`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vhs import select
from vhs.errors import RunError
from vhs.records import Prompt, Score, Selection
from vhs.select import Rule
from vhs.verifiers.base import ask

if TYPE_CHECKING:
    from vhs.verifiers.base import Verifier


def score_and_choose(
    verifier: Verifier, prompt: Prompt, features: Any, rule: Rule = Rule(), tie: str = "first", seed: int = 0
) -> tuple[Score, Selection]:
    """Scores of N candidates and the picks among them; `features` as `Verifier.score` takes them.

    A verifier with `compare` alone plays a tournament; its score is the number of games that a candidate has won.
    Raises RunError for a score that is not finite, or where `random_yes` meets a verifier that does not answer.
    """
    if getattr(verifier, "scores", True):
        score = ask(verifier, prompt, features)
        require_finite(prompt, score)
        if not (rule.name == "tournament" and getattr(verifier, "compare", None)):
            return score, choose(prompt, score, rule, tie, seed)
    candidates = range(features) if isinstance(features, int) else features
    bracket = select.tournament(len(candidates), rule.k, _rule_of(verifier, prompt, candidates))
    score = score if getattr(verifier, "scores", True) else Score.plain(bracket.won)
    return score, Selection(bracket.winners[0], others=tuple(bracket.winners[1:]))


def choose(prompt: Prompt, score: Score, rule: Rule = Rule(), tie: str = "first", seed: int = 0) -> Selection:
    """The picks among scored candidates, the winner first. `seed` draws for `random_yes`.

    Raises RunError where that meets scores without answers.
    """
    values = score.score.tolist()
    match rule.name:
        case "argmax":
            return select.argmax(values, tie)
        case "random_yes":
            if score.correct is None:
                raise RunError(f"prompt {prompt.id}: selection: random_yes needs a verifier that answers yes or no")
            return select.random_yes(score.correct.tolist(), seed)
        case "top_k":
            kept = select.top_k(values, rule.k, tie)
        case "tournament":
            kept = select.tournament(len(values), rule.k, select.by_score(values)).winners
            kept.sort(key=lambda index: -values[index])
    return Selection(kept[0], select.argmax(values, tie).tied, tuple(kept[1:]))


def require_finite(prompt: Prompt, score: Score, first: int = 0) -> None:
    """Raises RunError, naming prompt and candidate (`first` is the first's number), for a score that is not finite."""
    for index, value in enumerate(score.score.tolist(), start=first):
        if not math.isfinite(value):
            raise RunError(
                f"prompt {prompt.id} ({prompt.text!r}): candidate {index} has score {value:g}; the verifier or the "
                "generator overflows at this precision, or its weights are damaged: try dtype: float32"
            )


def _rule_of(verifier: Any, prompt: Prompt, candidates: Any) -> Callable[[int, int], bool]:
    return lambda a, b: bool(verifier.compare(prompt.text, candidates[a], candidates[b]))
