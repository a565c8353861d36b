"""Choosing a winner: ties, top k, tournaments, and the draw among the yes answers."""

from __future__ import annotations

import pytest

from vhs.select import argmax, random_yes, top_k, tournament


def test_ties_go_to_the_lowest_index_or_to_the_last_where_asked() -> None:
    scores = [0.1, 0.7, -0.2, 0.7]
    assert (argmax(scores).index, argmax(scores).tied) == (1, 2)
    assert argmax(scores, tie="last").index == 3
    assert (argmax([-0.3, -0.1]).index, argmax([-0.3, -0.1]).tied) == (1, 1)


def test_top_k_is_ordered_and_stable() -> None:
    assert top_k([0.5, 0.9, 0.5, 0.1], 3) == [1, 0, 2]


def test_a_tournament_keeps_the_best_of_each_group_and_gives_ties_to_the_second() -> None:
    scores = [0.9, 0.8, 0.1, 0.2]
    assert tournament(scores, k=2) == [0, 3]
    assert tournament(scores) == [0] and top_k(scores, 2) == [0, 1]
    assert tournament([0.5, 0.5, 0.1, 0.1]) == [1]
    with pytest.raises(AssertionError):
        tournament(scores, k=3)


def test_random_yes_draws_among_the_yes_answers_by_its_seed_alone() -> None:
    correct = [False, True, False, True, True]
    drawn = [random_yes(correct, seed).index for seed in range(60)]
    assert set(drawn) == {1, 3, 4} and drawn == [random_yes(correct, seed).index for seed in range(60)]
    assert {random_yes([False, False], seed).index for seed in range(30)} == {0, 1}
