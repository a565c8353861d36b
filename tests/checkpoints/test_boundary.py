"""Whatever a file holds is one line about the file: exceptions of any type, and sizes beyond any model's."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vhs.checkpoints.boundary import loading
from vhs.checkpoints.bounds import read_config
from vhs.checkpoints.open_clip_files import unwarned
from vhs.checkpoints.weights import check_safetensors
from vhs.errors import CheckpointError, ConfigError


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TypeError("not a number"), "TypeError: not a number"),
        (KeyError("weight"), "KeyError: 'weight'"),
        (ValueError("bad\nvalue"), "bad"),
        (RecursionError("too deep"), "too deep"),
        (ZeroDivisionError(), "ZeroDivisionError"),
        (AssertionError(), "AssertionError"),
        (type("PanicException", (BaseException,), {})("no entry"), "PanicException: no entry"),
    ],
)
def test_any_exception_becomes_one_line_that_names_file_and_part(error: BaseException, reason: str) -> None:
    with pytest.raises(CheckpointError) as raised, loading("verifier", "a/config.json", "download it again"):
        raise error
    assert str(raised.value) == f"a/config.json: not a usable verifier ({reason}); download it again"


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("a line"),
        KeyboardInterrupt(),
        torch.OutOfMemoryError("CUDA"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_lines_interrupts_and_full_memory_pass(error: BaseException) -> None:
    with pytest.raises(type(error)) as raised, loading("verifier", "a"):
        raise error
    assert raised.value is error


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_hidden_layers": 1_000_000_000}, "num_hidden_layers is 1,000,000,000; no model has more than 1,000"),
        ({"vision_config": {"hidden_size": 2**40}}, "hidden_size is 1,099,511,627,776; no model"),
        ({"depths": [2, 2, 10**6, 2]}, "depths is 1,000,000"),
        ({"num_attention_heads": -(10**9)}, "num_attention_heads is -1,000,000,000"),
        ({"patch_size": 10**30}, "patch_size is a number of more than 18 digits"),
        ({"vocab_size": float("inf")}, "vocab_size is inf"),
    ],
)
def test_sizes_beyond_any_model_are_refused(tmp_path: Path, values: dict, message: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=f"config.json: {message}"):
        read_config(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "is not valid JSON"),
        ('{"a":' * 100 + "1" + "}" * 100, "is nested deeper than 50 levels"),
        ('{"a": ' + "9" * 5000 + "}", "is not valid JSON"),
        ('{"a": "' + "x" * 17_000_000 + '"}', "such a file has at most 16,000,000"),
        ("[]", "is not a JSON object"),
    ],
)
def test_json_that_is_deep_or_huge(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=message):
        read_config(tmp_path / "config.json")


def test_what_real_models_say_passes() -> None:
    root = Path(__file__).parents[2] / "vhs"
    files = [*root.glob("*/architectures/**/config.json"), *root.glob("verifiers/architectures/*.json")]
    assert len(files) > 10
    for file in files:
        read_config(file)


HEADERS = {
    "an offset behind the file": {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4000]}},
    "an offset that is negative": {"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 4]}},
    "overlapping tensors": {n: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for n in "ab"},
    "a shape of another size": {"a": {"dtype": "F32", "shape": [7], "data_offsets": [0, 4]}},
    "a shape whose product overflows": {"a": {"dtype": "F32", "shape": [2**62, 8], "data_offsets": [0, 4]}},
    "an unknown dtype": {"a": {"dtype": "X32", "shape": [1], "data_offsets": [0, 4]}},
    "no offsets": {"a": {"dtype": "F32", "shape": [1]}},
    "a list": [],
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS.keys())
def test_headers_of_safetensors(tmp_path: Path, header: object) -> None:
    text = json.dumps(header).encode()
    (tmp_path / "a.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * 4)
    with pytest.raises(CheckpointError, match="a.safetensors: truncated or corrupt"):
        check_safetensors(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((10 * 2**30).to_bytes(8, "little") + b"{}", "truncated or corrupt"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (b"PK\3\4" + b"\0" * 40, "is a pickle under another name"),
    ],
)
def test_what_is_no_safetensors_file_at_all(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError, match=message):
        check_safetensors(tmp_path / "a.safetensors")


def test_a_missing_file_and_a_folder_in_its_place(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    check_safetensors(tmp_path / "a.safetensors")
    for place in (tmp_path / "b.safetensors", tmp_path):
        with pytest.raises(CheckpointError, match="not a usable weight file"):
            check_safetensors(place)


def test_two_threads_that_read_a_clip_folder_leave_the_log_on(caplog: pytest.LogCaptureFixture) -> None:
    first, second = unwarned(), unwarned()
    first.__enter__()
    second.__enter__()
    logging.warning("of a model without weights")
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    logging.warning("of something else")
    assert caplog.messages == ["of something else"]
