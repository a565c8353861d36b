"""Weight files are judged by their headers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vhs.checkpoints.weights import check_safetensors, weight_files
from vhs.errors import CheckpointError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_file({"a": torch.zeros(3), "b": torch.ones(2, 2)}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    return tmp_path / "model.safetensors"


def test_a_whole_file_passes(file: Path) -> None:
    check_safetensors(file)
    assert weight_files(file.parent, "model") == [file]


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: data[:6],
        lambda data: b"",
        lambda data: data[:8] + b"?" * (len(data) - 8),
    ],
)
def test_any_other_length_or_header_does_not(file: Path, change) -> None:
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(CheckpointError, match="truncated or corrupt"):
        check_safetensors(file)


def test_shards_are_those_of_the_index(file: Path) -> None:
    file.rename(file.with_name("model-00001-of-00001.safetensors"))
    index = file.with_name("model.safetensors.index.json")
    index.write_text(
        '{"weight_map": {"a": "model-00001-of-00001.safetensors", "b": "model-00001-of-00001.safetensors"}}'
    )
    assert [shard.name for shard in weight_files(file.parent, "model")] == ["model-00001-of-00001.safetensors"]
    index.write_text('{"weight_map": {"a": "x.safetensors"}}')
    with pytest.raises(CheckpointError, match="shards missing: x.safetensors"):
        weight_files(file.parent, "model")
    index.write_text("[]")
    with pytest.raises(CheckpointError, match="not a usable index of shards"):
        weight_files(file.parent, "model")


@pytest.mark.parametrize("length", [0x80, 19_280])
def test_a_header_whose_length_begins_like_a_pickle_is_not_one(tmp_path, length):
    """The first byte of a safetensors file is its header's length: 0x80 and "PK" are lengths like any other."""
    file = tmp_path / "model.safetensors"
    header = b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(length)
    file.write_bytes(length.to_bytes(8, "little") + header + b"\0" * 4)
    check_safetensors(file)
