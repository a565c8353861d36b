"""A sample of the kills that `python -m tests.chaos.kills` makes."""

from __future__ import annotations

import pytest

from tests.chaos.kills import main


@pytest.mark.slow
@pytest.mark.parametrize("name", ["run", "judge", "collect", "label", "train"])
def test_a_killed_command_goes_on_to_the_same_bytes(forking: None, name: str) -> None:
    told: list[str] = []
    assert main([name, "--count", "3"], told.append) == 0, "\n".join(told)


@pytest.mark.slow
def test_two_killed_processes_go_on_to_the_same_bytes(forking: None) -> None:
    told: list[str] = []
    assert main(["collect", "--count", "1", "--processes", "2"], told.append) == 0, "\n".join(told)
