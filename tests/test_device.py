"""Which device and precision a configuration means."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.profiler import profile

from vhs.device import attention_to_train, resolve_device, resolve_dtype, resolve_precision
from vhs.errors import ConfigError
from vhs.processes import Process


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch):
    """`gpus(n)`: torch sees n CUDA devices."""

    def see(count: int) -> None:
        monkeypatch.setattr("torch.cuda.is_available", lambda: count > 0)
        monkeypatch.setattr("torch.cuda.device_count", lambda: count)

    return see


def test_auto_takes_a_gpu_where_there_is_one(gpus) -> None:
    gpus(0)
    assert resolve_device("auto") == "cpu"
    gpus(2)
    assert resolve_device("auto") == "cuda" and resolve_device("cpu") == "cpu"


def test_each_process_has_its_own_gpu(gpus) -> None:
    gpus(2)
    assert resolve_device("auto", Process(3, 4, 1)) == "cuda:1" == resolve_device("cuda", Process(1, 2, 1))
    assert resolve_device("cuda:0", Process(1, 2, 1)) == "cuda:0" and resolve_device("cpu", Process(1, 2, 1)) == "cpu"


@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_a_device_that_is_not_there_is_one_line(gpus, device: str) -> None:
    gpus(0)
    with pytest.raises(ConfigError, match=f"device: {device}: torch has no such device here; use device: cpu"):
        resolve_device(device)


def test_a_gpu_beyond_the_last_is_one_line(gpus) -> None:
    gpus(2)
    with pytest.raises(ConfigError, match="device: cuda:2: torch sees 2 CUDA"):
        resolve_device("cuda:2")


def test_precision_follows_the_device() -> None:
    assert [resolve_dtype("auto", device) for device in ("cpu", "cuda:1")] == ["float32", "bfloat16"]
    assert resolve_dtype("float16", "cpu") == "float16"


@pytest.mark.parametrize(
    ("flags", "fast"), [({"avx2": True}, False), ({"avx512_bf16": True}, True), ({"amx_bf16": True}, True)]
)
def test_auto_precision_is_bfloat16_where_a_cpu_multiplies_it(monkeypatch, flags: dict[str, bool], fast: bool) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: flags)
    assert resolve_precision("auto", "cpu") == ("bfloat16" if fast else "float32")
    assert resolve_precision("bfloat16", "cpu") == "bfloat16"


@pytest.mark.parametrize("fast", [True, False])
def test_auto_precision_is_bfloat16_on_a_gpu_that_computes_in_it(monkeypatch, fast: bool) -> None:
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: fast)
    assert resolve_precision("auto", "cuda:1") == ("bfloat16" if fast else "float32")


@pytest.mark.parametrize(("precision", "fused"), [("bfloat16", False), ("float32", True)])
def test_a_cpu_trains_bfloat16_without_the_fused_attention(precision: str, fused: bool) -> None:
    query = torch.randn(2, 2, 8, 16, dtype=getattr(torch, precision), requires_grad=True)
    with profile(acc_events=True) as record:
        with attention_to_train("cpu", precision):
            out = scaled_dot_product_attention(query, query, query, is_causal=True)
        out.sum().backward()
    assert fused == any("flash_attention" in event.key for event in record.key_averages())
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
        usual = scaled_dot_product_attention(query, query, query, is_causal=True)
    torch.testing.assert_close(out, usual, rtol=2e-2, atol=2e-2)


def test_a_gpu_trains_with_the_attention_that_torch_picks() -> None:
    before = torch.backends.cuda.flash_sdp_enabled()
    with attention_to_train("cuda", "bfloat16"):
        assert torch.backends.cuda.flash_sdp_enabled() == before


def test_a_gpu_without_bfloat16_is_one_line(gpus, monkeypatch) -> None:
    gpus(1)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "Tesla T4")
    with pytest.raises(ConfigError, match="dtype: bfloat16: Tesla T4 does not compute in it; set dtype: float16"):
        resolve_dtype("auto", "cuda")
    assert resolve_dtype("float16", "cuda") == "float16"
