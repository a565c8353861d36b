"""Time per stage."""

from __future__ import annotations

import pytest

from vhs.stages import StageTimes, total


def test_a_stage_adds_up_its_calls_items_and_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([1.0, 3.0, 10.0, 10.5])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    times = StageTimes()
    for items in (4, 1):
        with times.stage("prefix", items):
            pass
    assert times.as_dict() == {"prefix": {"seconds": 2.5, "calls": 2, "items": 5}}


def test_a_stage_that_fails_is_not_counted_and_an_unknown_one_is_a_bug() -> None:
    times = StageTimes()
    with pytest.raises(ValueError), times.stage("decode"):
        raise ValueError
    with pytest.raises(AssertionError), times.stage("decoding"):
        pass
    assert times.as_dict() == {}


def test_the_device_is_waited_for_at_both_ends() -> None:
    calls = []
    with StageTimes(wait=lambda: calls.append(1)).stage("score"):
        pass
    assert len(calls) == 2


def test_totals_add_prompts() -> None:
    row = {"decode": {"seconds": 0.5, "calls": 1, "items": 2}, "encode": {"seconds": 0.25, "calls": 1, "items": 1}}
    summed = total([row, {"decode": row["decode"]}])
    assert list(summed) == ["encode", "decode"] and summed["decode"] == {"seconds": 1.0, "calls": 2, "items": 4}
