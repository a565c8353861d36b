"""Choosing a winner: ties, top k, tournaments, and the draw among the yes answers."""

from __future__ import annotations

import pytest

from vhs.select import Bracket, argmax, by_score, ensemble, plays, random_yes, ranks, top_k, tournament


def test_ties_go_to_the_lowest_index_or_to_the_last_where_asked() -> None:
    scores = [0.1, 0.7, -0.2, 0.7]
    assert (argmax(scores).index, argmax(scores).tied) == (1, 2)
    assert argmax(scores, tie="last").index == 3 and argmax([1, 0, 1, 1], tie="last").index == 3
    assert (argmax([-0.3, -0.1]).index, argmax([-0.3, -0.1]).tied) == (1, 1)


def test_top_k_is_ordered_and_stable() -> None:
    assert top_k([0.5, 0.9, 0.5, 0.1], 3) == [1, 0, 2]
    assert top_k([0.5, 0.9], 1) == [1] and top_k([0.5, 0.9], 2) == [1, 0]
    for k in (0, 3):
        with pytest.raises(AssertionError):
            top_k([0.5, 0.9], k)


def test_the_highest_index_comes_first_among_equals_where_asked() -> None:
    assert top_k([0.5, 0.9, 0.5], 2, tie="last") == [1, 2]


def test_a_tournament_keeps_the_best_of_each_contiguous_group_not_the_global_top_k() -> None:
    scores = [0.9, 0.8, 0.1, 0.2]
    two = tournament(4, 2, by_score(scores))
    assert (two.winners, two.won) == ([0, 3], [1, 0, 0, 1]) and top_k(scores, 2) == [0, 1]
    assert tournament(4, 1, by_score(scores)) == Bracket([0], [2, 0, 0, 1])
    assert tournament(4, 4, by_score(scores)).winners == [0, 1, 2, 3]
    with pytest.raises(AssertionError):
        tournament(4, 3, by_score(scores))
    assert [k for k in range(10) if plays(8, k)] == [1, 2, 4, 8] and [k for k in range(13) if plays(12, k)] == [
        3,
        6,
        12,
    ]


@pytest.mark.parametrize(
    ("first", "second", "winner"),
    [
        ((True, 0.6, 0.3), (True, 0.7, 0.1), 1),  # both yes: the higher p(yes)
        ((True, 0.7, 0.1), (True, 0.6, 0.3), 0),
        ((False, 0.1, 0.4), (False, 0.3, 0.6), 0),  # both no: the lower p(no)
        ((False, 0.3, 0.6), (False, 0.1, 0.4), 1),
        ((False, 0.49, 0.5), (True, 0.4, 0.39), 1),  # else the yes
        ((True, 0.4, 0.39), (False, 0.49, 0.5), 0),
        ((True, 0.5, 0.1), (True, 0.5, 0.2), 1),  # a tie goes to the second
        ((False, 0.1, 0.5), (False, 0.2, 0.5), 1),
    ],
)
def test_signed_scores_play_by_visa_s_rule(first, second, winner) -> None:
    signed = [p_yes if yes else -p_no for yes, p_yes, p_no in (first, second)]
    assert tournament(2, 1, by_score(signed)).winners == [winner]


def test_a_tournament_needs_no_scores() -> None:
    beats = {(0, 1): False, (2, 3): True, (1, 2): True}  # no order of four numbers has to stand behind it
    assert tournament(4, 1, lambda a, b: beats[a, b]) == Bracket([1], [0, 2, 1, 0])


def test_ranks_count_ties_half_and_an_ensemble_takes_their_mean() -> None:
    assert ranks([5, 1, 5, 3]).tolist() == [2.5, 0, 2.5, 1]
    assert not plays(0, 1), "nobody plays"
    small, large = [0.1, 0.2, 0.3], [900, -500, 800]
    assert ensemble([small, large]).tolist() == [1, 0.5, 1.5]
    assert ensemble([small, large], mean="scores").argmax() == 0, "the larger scale decides a mean of scores"


def test_random_yes_draws_among_the_yes_answers_by_its_seed_alone() -> None:
    correct = [False, True, False, True, True]
    drawn = [random_yes(correct, seed).index for seed in range(60)]
    assert random_yes(correct, 0).tied == 3 and random_yes([False, False], 0).tied == 2
    assert set(drawn) == {1, 3, 4} and drawn == [random_yes(correct, seed).index for seed in range(60)]
    assert {random_yes([False, False], seed).index for seed in range(30)} == {0, 1}
