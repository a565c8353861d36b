"""The benchmark counts what it ran."""

from __future__ import annotations

from vhs.geneval.evaluate import GenEval
from vhs.measure.judge import measure, smooth_pictures


def test_rates_are_pictures_over_seconds(detector, colors, monkeypatch):
    clock = iter([0.0, 2.0, 10.0, 14.0])
    monkeypatch.setattr("vhs.measure.judge.time.perf_counter", lambda: next(clock))
    figures = measure(GenEval(detector, colors), smooth_pictures(6, 64))
    assert figures["detector_pictures_per_second"] == 3 and figures["pictures_per_second"] == 1.5
    assert figures["pictures"] == figures["batch_size"] == 6 and figures["objects_per_picture"] > 0
