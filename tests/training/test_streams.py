"""Shards read one after the other, from a folder or a store: every sample once an epoch, in the same order."""

import sys
from pathlib import Path

import fsspec
import pytest
import torch

from tests.training.curves import curve
from vhs.errors import ConfigError, RunError
from vhs.training.data import store
from vhs.training.data.commands import run_normalize
from vhs.training.data.label_commands import run_label
from vhs.training.data.shards import place, read_whole
from vhs.training.data.store import CollectedSet
from vhs.training.data.tasks import CollectConfig, NormalizeConfig, VerdictTask
from vhs.training.orders import streamed_order
from vhs.training.trainer import Trainer

URL = "memory://bucket/collected"


@pytest.fixture(scope="module")
def remote(collected: Path) -> str:
    """The collected set (20 prompts, 4 candidates, 5 shards of 16 samples) in fsspec's memory."""
    fsspec.filesystem("memory").put(f"{collected}/", "/bucket/collected/", recursive=True)
    yield URL
    fsspec.filesystem("memory").rm("/bucket", recursive=True)


def test_an_epoch_reads_each_sample_once_and_shard_after_shard():
    shards = torch.arange(120) // 10
    order = streamed_order(shards, 2, 2, 8, epoch=0, seed=3)
    assert sorted(order.tolist()) == list(range(120))
    for stream in order.reshape(-1, 2, 4).unbind(1):  # a buffer of one sample each: nothing is moved
        seen = shards[stream.flatten()].tolist()
        assert seen == sorted(seen, key=seen.index) and len(set(seen)) == 6, "a shard is read to its end"


def test_a_buffer_moves_samples_no_further_than_its_size():
    shards = torch.arange(120) // 10
    plain = streamed_order(shards, 2, 2, 8, epoch=1, seed=3).reshape(-1, 2, 4).transpose(0, 1).reshape(2, -1)
    order = streamed_order(shards, 40, 2, 8, epoch=1, seed=3)
    for read, moved in zip(plain, order.reshape(-1, 2, 4).transpose(0, 1).reshape(2, -1), strict=True):
        places = {int(sample): place for place, sample in enumerate(moved)}
        apart = torch.tensor([places[int(sample)] - place for place, sample in enumerate(read)])
        assert apart.abs().max() <= 20 and apart.abs().float().mean() > 3
    assert torch.equal(order, streamed_order(shards, 40, 2, 8, epoch=1, seed=3))
    assert not torch.equal(order, streamed_order(shards, 40, 2, 8, epoch=2, seed=3))


@pytest.mark.parametrize("streams", [None, 2])
def test_a_store_trains_as_the_folder_does(remote, config, streams, monkeypatch):
    reads = []
    monkeypatch.setattr(store, "read_whole", lambda path: reads.append(str(path)) or read_whole(path))
    keys = {"shuffle_buffer": 8, "streams": streams, "eval_fraction": 0, "batch_size": 8, "micro_batch": 4}
    losses = curve(config(**keys))
    local = len(reads)
    # two epochs of five shards; the cut between two streams goes through one of them
    assert 5 <= local <= 2 * 6, "a shard is read once an epoch"
    assert curve(config(**keys, data=[remote])) == losses and len(losses) == 20 and losses[-1] < losses[0]
    assert all(path.startswith("memory://") for path in reads[local:])


def test_statistics_of_a_store_are_those_of_the_folder(remote, collected, tmp_path):
    for name, data in (("here", str(collected)), ("there", remote)):
        run_normalize(NormalizeConfig(data=[data], output=str(tmp_path / name)), print)
    file = "block_7_variance_bf16.pt"
    assert (tmp_path / "here" / file).read_bytes() == (tmp_path / "there" / file).read_bytes()
    assert CollectedSet(remote).fingerprint() == CollectedSet(remote).fingerprint()


def test_what_cannot_be_streamed_is_one_line(remote, config, monkeypatch):
    with pytest.raises(ConfigError, match="memory://bucket/collected: .* set shuffle_buffer"):
        Trainer(config(data=[remote]))
    with pytest.raises(ValueError, match="3 does not divide batch_size 16"):
        config(shuffle_buffer=8, streams=3)
    with pytest.raises(ValueError, match="belongs to shuffle_buffer, which is not given"):
        config(streams=2)
    with pytest.raises(ValueError, match="would part the candidates of a prompt that ranking compares"):
        config(shuffle_buffer=8, ranking=1.0)
    trainer = Trainer(config(shuffle_buffer=8))
    monkeypatch.setattr(type(trainer.accelerator), "num_processes", 2)
    with pytest.raises(RunError, match="streams: 1 do not divide among 2 processes.*; streams: 2 would"):
        trainer._check_batch()
    with pytest.raises(ConfigError, match="files are written beside a set; label it in a folder here"):
        run_label(VerdictTask(task="verdicts", data=[remote], judge="x.yaml"), print)
    with pytest.raises(ValueError, match="s3://a/b is no folder here; copy the finished set there"):
        CollectConfig(run="r", annotation="a", output="s3://a/b")
    with pytest.raises(ConfigError, match="nosuch://x: cannot be reached"):
        place("nosuch://x")
    with pytest.raises(ConfigError, match="memory://bucket/other/index.json: is missing; a folder that collect.py"):
        CollectedSet("memory://bucket/other")
    monkeypatch.setitem(sys.modules, "upath", None)
    with pytest.raises(ConfigError, match=r"a URL is read by universal_pathlib; pip install 'vhs\[remote\]'"):
        place(remote)
