"""Which part of the work a process does, and what is wrong in an environment that says so."""

from __future__ import annotations

import re

import pytest

from vhs.errors import ConfigError, RunError
from vhs.processes import Process, current_process

TWO = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}


@pytest.mark.parametrize("count", [1, 2, 3, 7, 12])
def test_every_item_goes_to_exactly_one_process_in_order(count: int) -> None:
    slices = [Process(index, count).of(range(10)) for index in range(count)]
    assert [item for part in slices for item in part] == list(range(10))
    assert max(map(len, slices)) - min(map(len, slices)) <= 1


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE: 'two' is not a number of processes"),
        ({"WORLD_SIZE": "-1"}, "WORLD_SIZE: '-1' is not a number of processes"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE: '0' is not"),
        ({"WORLD_SIZE": "2"}, "but RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT is not set; start them with accelerate"),
        ({**TWO, "MASTER_ADDR": ""}, "2 processes, but MASTER_ADDR is not set"),
        ({**TWO, "RANK": "2"}, "RANK: 2 of 2 processes (WORLD_SIZE); they are numbered from 0"),
        ({**TWO, "LOCAL_RANK": "one"}, "LOCAL_RANK: 'one' is not a number"),
        ({**TWO, "MASTER_PORT": "tcp"}, "MASTER_PORT: 'tcp' is not a number"),
    ],
)
def test_an_environment_without_a_master_is_one_line(monkeypatch, environment: dict, message: str) -> None:
    for name in TWO:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=re.escape(message)):
        current_process()


@pytest.mark.parametrize("world", ["", "1"])
def test_alone_it_is_the_first(monkeypatch, world: str) -> None:
    monkeypatch.setenv("WORLD_SIZE", world)
    assert current_process().first and current_process().count == 1


def test_others_that_cannot_be_met_are_one_line(monkeypatch) -> None:
    for name, value in TWO.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RunError, match=r"process 1 of 2: the others cannot be met at 127.0.0.1:1 \(.*MASTER_ADDR"):
        current_process(timeout=0.02)
