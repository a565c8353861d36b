"""The fastest matrix multiplication of this machine: what utilisation is measured against."""

from __future__ import annotations

from functools import cache

import torch

from vhs.measure.latency import latency

SIDES = {"cuda": (4096, 8192), "cpu": (512, 1024)}


@cache
def matmul_flops_per_second(device: str, dtype: str) -> float:
    """The most FLOPs per second over square products of several sizes, each the median of ten calls."""
    kind = device.partition(":")[0]
    return max(_flops_per_second(side, device, getattr(torch, dtype)) for side in SIDES.get(kind, SIDES["cuda"]))


def _flops_per_second(side: int, device: str, dtype: torch.dtype) -> float:
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    out = torch.empty_like(a)
    return 2 * side**3 / (latency(lambda: torch.mm(a, b, out=out), device, repeats=10, warmup=3).median / 1000)
