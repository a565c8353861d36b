"""Where shards are and how they are read, without a set."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import save_file

from vhs.errors import ConfigError
from vhs.training.data.shards import THREADS, ShardCache, is_remote, place, read_mapped, read_whole


def test_a_name_is_a_folder_here_or_a_url(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert place("~/set") == tmp_path / "set" and not is_remote(place(tmp_path)) and is_remote("memory://a")
    asked = []

    class UPath(str):
        def joinpath(self, name: str) -> UPath:
            return UPath(f"{self}/{name}")

        def exists(self) -> bool:
            asked.append(self)
            if "closed" in self:
                raise PermissionError("\n no entry \n")
            return False

    stand_in = ModuleType("upath")
    stand_in.UPath = UPath
    monkeypatch.setitem(sys.modules, "upath", stand_in)
    assert place("s3://a/set") == "s3://a/set" and asked == ["s3://a/set/index.json"]
    with pytest.raises(ConfigError, match=r"^s3://closed: cannot be reached \(no entry\)$"):
        place("s3://closed")
    monkeypatch.setitem(sys.modules, "upath", None)
    with pytest.raises(ConfigError) as refused:
        place("s3://a/set")
    assert str(refused.value) == "s3://a/set: a URL is read by universal_pathlib; pip install 'vhs[remote]'"


def test_a_shard_is_the_same_whole_and_mapped(tmp_path: Path) -> None:
    save_file({"a": torch.arange(6.0).reshape(2, 3)}, tmp_path / "shard")
    for read in (read_mapped, read_whole):
        assert read(tmp_path / "shard")["a"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_the_shards_that_were_asked_for_last_are_kept() -> None:
    cache, reads = ShardCache(2), []

    def get(key: str) -> str:
        return cache.get(key, lambda: reads.append(key) or f"tensors of {key}")

    assert [get(key) for key in "aba"] == ["tensors of a", "tensors of b", "tensors of a"] and reads == ["a", "b"]
    get("c")  # in the place of b
    assert get("a") == "tensors of a" and reads == ["a", "b", "c"]
    get("b")
    assert reads == ["a", "b", "c", "b"] and cache.size == 2


def test_what_is_expected_is_read_once_and_an_error_is_raised_where_it_is_used() -> None:
    cache, reads = ShardCache(3), []
    cache.expect("a", lambda: reads.append("a") or "tensors").result()
    assert cache.get("a", lambda: pytest.fail("read again")) == "tensors" and reads == ["a"]
    cache.expect("b", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cache.get("b", lambda: "tensors")


def test_so_many_are_read_at_a_time() -> None:
    cache, going_on = ShardCache(THREADS + 1), threading.Event()
    waiting = [cache.expect(number, lambda: going_on.wait(10)) for number in range(THREADS)]
    after = cache.expect("next", lambda: "tensors")
    with pytest.raises(TimeoutError):
        after.result(timeout=0.1)
    going_on.set()
    assert after.result(timeout=10) == "tensors" and all(one.result(timeout=10) for one in waiting)
