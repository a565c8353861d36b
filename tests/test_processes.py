"""Which part of the work a process does, and what is wrong in an environment that says so."""

from __future__ import annotations

import pytest

from vhs.errors import ConfigError
from vhs.processes import Process, current_process

VARIABLES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


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
        ({"WORLD_SIZE": "2"}, "2 processes, but RANK, MASTER_ADDR, MASTER_PORT is not set; start them with accelerate"),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_PORT": "1"}, "but MASTER_ADDR is not set"),
    ],
)
def test_an_environment_without_a_master_is_one_line(monkeypatch, environment: dict, message: str) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message):
        current_process()


@pytest.mark.parametrize("world", ["", "1"])
def test_alone_it_is_the_first(monkeypatch, world: str) -> None:
    monkeypatch.setenv("WORLD_SIZE", world)
    assert current_process().first and current_process().count == 1
