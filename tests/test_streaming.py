"""Candidates that stream: the same results as all at once, in the memory of a few, and prompts that end early."""

from __future__ import annotations

import pytest
import torch

from tests.test_best_of_n import TEXT, generator, verifier  # noqa: F401 - fixtures
from vhs import BestOfN
from vhs.config.run import RunConfig
from vhs.errors import ConfigError
from vhs.measure.memory import LiveMemory
from vhs.records import Score
from vhs.resolve import resolve_models
from vhs.streaming import Best, Stop


@pytest.fixture
def by_two(generator, verifier, monkeypatch):  # noqa: F811
    """Generator and verifier in micro-batches of two."""
    monkeypatch.setattr(generator, "micro_batch", 2)
    monkeypatch.setattr(verifier, "micro_batch", 2)
    return generator, verifier


@pytest.mark.parametrize("selection", ["argmax", {"top_k": 3}])
@pytest.mark.parametrize("tie", ["first", "last"])
def test_streaming_changes_no_bit(by_two, monkeypatch, selection, tie) -> None:
    method = BestOfN(*by_two, num_samples=7, selection=selection, tie=tie)
    streamed = method(TEXT)
    monkeypatch.setattr(by_two[1], "independent", False)
    whole = method(TEXT)
    assert streamed.scores == whole.scores and streamed.selection == whole.selection
    assert all(streamed.images[index].tobytes() == whole.images[index].tobytes() for index in whole.picks)


def test_memory_does_not_grow_with_the_number_of_candidates(by_two) -> None:
    def peak(count: int) -> int:
        with LiveMemory() as memory:
            BestOfN(*by_two)(TEXT, num_samples=count)
        return memory.peak

    peak(2)
    assert peak(24) <= 1.05 * peak(4)


@pytest.mark.parametrize("keep", [1, 4])
def test_two_thousand_candidates_need_the_memory_of_thirty_two(keep) -> None:
    """Resident bytes of what is kept, exactly: a captured state each, 32 of which come at once."""
    state = 1024 * 4

    def live(count: int) -> tuple[int, int]:
        with LiveMemory() as memory:
            best = Best(keep)
            for first in range(0, count, 32):
                scores = torch.rand(32, generator=torch.Generator().manual_seed(first))
                best.add(Score.plain(scores), torch.zeros(32, 1024))
            del scores
            return memory.live - count * 4, memory.peak  # a score is 4 bytes

    held, peak = live(2048)
    assert held == live(32)[0] == keep * state
    assert peak <= 1.05 * live(64)[1] + 2048 * 4


def test_equal_scores_keep_the_state_of_the_tie_rule_s_winner() -> None:
    scores = [0.5, 0.9, 0.1, 0.9, 0.9, 0.3]
    for tie, winner in (("first", 1), ("last", 4)):
        best = Best(1, tie)
        for first in (0, 2, 4):
            best.add(Score.plain(scores[first : first + 2]), torch.arange(first, first + 2))
        assert best.states([winner]).tolist() == [winner] and best.score.score.tolist() == pytest.approx(scores)


@pytest.mark.parametrize(
    ("at", "least", "expected"), [(0.9, 1, 2), (0.9, 4, 4), (0.05, 1, 1), (0.95, 1, None), (0.9, 7, None)]
)
def test_a_prompt_ends_with_the_candidate_that_reaches_the_score(at, least, expected) -> None:
    assert Stop(at, least).after([0.5, 0.9, 0.1, 0.9, 0.9, 0.3]) == expected


def test_where_a_prompt_ends_does_not_depend_on_the_micro_batch(by_two, monkeypatch) -> None:
    scores = BestOfN(*by_two)(TEXT, num_samples=7).scores
    reached = scores.index(max(scores))
    found = []
    for size in (1, 2, 4):
        for model in by_two:
            monkeypatch.setattr(model, "micro_batch", size)
        method = BestOfN(*by_two, num_samples=7, stop_when=max(scores) - 1e-4, min_samples=1)
        found.append(method(TEXT))
    assert [len(one.scores) for one in found] == [reached + 1] * 3
    assert {one.best_index for one in found} == {reached} and {one.num_samples for one in found} == {reached + 1}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"stop_when": 0.9, "generation_mode": "dev"}, "stop_when: saves candidates in prod"),
        ({"stop_when": 0.9, "min_samples": 5}, "min_samples: 5 is out of range; 1 to 4"),
        ({"max_samples": 9}, "max_samples: bounds the candidates of stop_when"),
        ({"stop_when": 0.9, "selection": "random_yes"}, "stop_when: goes with selection: argmax or top_k"),
    ],
)
def test_keys_that_do_not_go_together(run_keys, keys, message) -> None:
    with pytest.raises(ConfigError, match=message):
        RunConfig(**run_keys).changed(**keys)


def test_a_score_that_no_answer_reaches_is_refused(run_keys) -> None:
    config = RunConfig(**run_keys, stop_when=1.5)
    with pytest.raises(ConfigError, match="stop_when: 1.5 is outside the verifier's scores, which go from -1 to 1"):
        resolve_models(config)
    assert RunConfig(**{**run_keys, "stop_when": 0.5, "max_samples": 16}).num_samples == 16


def test_the_summary_says_what_was_spent(run_keys) -> None:
    import json
    from pathlib import Path

    from vhs.runs import runner
    from vhs.runs.report.data import read_run

    config = RunConfig(**run_keys, stop_when=-1.0, min_samples=2)
    closing = runner.run(config, lambda line: None, bar=False)
    assert "candidates spent: 6, 2.00 per prompt on average, of 4 at most" in closing
    folder = Path(config.output_path, config.name)
    assert json.loads((folder / "summary.json").read_text())["counts"]["candidates_spent"] == 6
    assert [len(rows) for rows in read_run(folder).table.rows.values()] == [2, 2, 2]
