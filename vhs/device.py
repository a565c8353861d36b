"""Which device and precision a configuration means: the only place that looks for a GPU."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from vhs.errors import ConfigError
from vhs.processes import Process

DRIVERS = ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/nvmap", "/dev/dxg", "/dev/kfd")
"""What a GPU's driver puts there on Linux: NVIDIA's, Jetson's, that of Windows' subsystem, AMD's."""


def resolve_device(device: str, process: Process = Process()) -> str:
    """`auto` is CUDA where there is one, else the CPU; of several processes each has a CUDA device of its own.

    Raises ConfigError where torch has no such device. torch is asked where there may be a GPU: importing it takes
    longer than all else that a dry run does.
    """
    if device == "cpu" or (device == "auto" and _without_driver()):
        return "cpu"
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and process.count > 1:
        device = f"cuda:{process.local}"
    kind, _, index = device.partition(":")
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(kind):
        raise ConfigError(f"device: {device}: torch has no such device here; use device: cpu")
    if index and not (index.isdigit() and int(index) < torch.cuda.device_count()):
        raise ConfigError(f"device: {device}: torch sees {torch.cuda.device_count()} CUDA device(s) here")
    return device


def _without_driver() -> bool:
    """No driver of a GPU is here, so torch, unless it is imported already, need not be asked."""
    return sys.platform == "linux" and "torch" not in sys.modules and not any(map(Path.exists, map(Path, DRIVERS)))


def resolve_precision(precision: str, device: str) -> str:
    """`auto` is bfloat16 where `device` multiplies it in hardware, else float32."""
    return ("bfloat16" if has_bfloat16(device) else "float32") if precision == "auto" else precision


def has_bfloat16(device: str) -> bool:
    """Whether `device` multiplies bfloat16 in hardware; one that does not is several times slower with it."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = torch.cpu.get_capabilities()
    return device == "cpu" and bool(known.get("avx512_bf16") or known.get("amx_bf16"))


def attention_to_train(device: str, precision: str) -> AbstractContextManager[None]:
    """Attention as torch picks it, except in bfloat16 on a CPU: there it is written out, since the gradient of the
    fused kernel takes up to half of a step (docs/LOG.md).

    torch's cache of compiled graphs does not know which it was: compile a function always within this, or never.
    """
    if device != "cpu" or precision != "bfloat16":
        return nullcontext()
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel(SDPBackend.MATH)


def resolve_dtype(dtype: str, device: str) -> str:
    """`auto` is float32 on the CPU and bfloat16 elsewhere.

    Raises ConfigError for bfloat16 on a GPU that does not compute in it.
    """
    if dtype == "auto":
        dtype = "float32" if device == "cpu" else "bfloat16"
    if dtype == "bfloat16" and device.startswith("cuda"):
        import torch

        if torch.cuda.is_available() and not torch.cuda.is_bf16_supported(including_emulation=False):
            name = torch.cuda.get_device_name(device)
            raise ConfigError(f"dtype: bfloat16: {name} does not compute in it; set dtype: float16 or float32")
    return dtype
