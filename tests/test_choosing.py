"""Scores and a rule become picks."""

from __future__ import annotations

import pytest
import torch

from vhs.choosing import choose, score_and_choose
from vhs.errors import RunError
from vhs.records import Prompt, Score
from vhs.select import Rule
from vhs.verifiers.base import RandomVerifier

PROMPT = Prompt(5, "a cat")
SCORE = Score.plain([0.1, 0.9, 0.3, 0.9])


@pytest.mark.parametrize(
    ("rule", "tie", "picks"),
    [
        (Rule(), "first", (1,)),
        (Rule(), "last", (3,)),
        (Rule("top_k", 3), "first", (1, 3, 2)),
        (Rule("top_k", 2), "last", (3, 1)),
        (Rule("tournament", 2), "first", (1, 3)),
        (Rule("tournament", 1), "first", (3,)),  # the second of a pair wins a tie
        (Rule("tournament", 4), "first", (1, 3, 2, 0)),
    ],
)
def test_picks_come_best_first(rule, tie, picks) -> None:
    chosen = choose(PROMPT, SCORE, rule, tie)
    assert chosen.picks == picks and chosen.index == picks[0] and chosen.tied == 2


def test_random_yes_needs_answers() -> None:
    with pytest.raises(RunError, match="prompt 5: selection: random_yes needs a verifier that answers yes or no"):
        choose(PROMPT, SCORE, Rule("random_yes"))
    answered = Score(None, None, torch.tensor([False, False, True, False]), SCORE.score)
    assert choose(PROMPT, answered, Rule("random_yes")).picks == (2,)


class Compares:
    """Larger is better, where two are seen side by side."""

    reads = "image"
    scores = False

    def compare(self, prompt: str, a: int, b: int) -> bool:
        return a > b


def test_a_verifier_that_only_compares_plays_and_its_score_is_games_won() -> None:
    score, chosen = score_and_choose(Compares(), PROMPT, [3, 9, 1, 4], Rule("tournament", 1))
    assert chosen.picks == (1,) and score.score.tolist() == [0, 2, 0, 1]
    _, two = score_and_choose(Compares(), PROMPT, [3, 9, 1, 4], Rule("tournament", 2))
    assert two.picks == (1, 3)


def test_scores_that_are_not_finite_name_prompt_and_candidate() -> None:
    class Broken(RandomVerifier):
        def score(self, prompt: str, features: int) -> Score:
            return Score.plain([1.0, float("nan")])

    with pytest.raises(RunError, match=r"prompt 5 \('a cat'\): candidate 1 has score nan"):
        score_and_choose(Broken(), PROMPT, 2)
