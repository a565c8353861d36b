"""A sample of the malformed inputs that `python -m tests.chaos.malformed` makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.malformed import HELD, run_cases


@pytest.mark.slow
def test_malformed_inputs_are_refused_in_one_line_or_taken(forking: None, tmp_path: Path) -> None:
    told: list[str] = []
    outcomes = run_cases(0, 100, tmp_path, told.append)
    assert outcomes["refused"] > 30 and set(outcomes) <= set(HELD), "\n".join(told)
