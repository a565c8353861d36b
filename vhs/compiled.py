"""`compile: true`: a network's layers through `torch.compile`, and on a GPU whole passes as CUDA graphs.

Compiling fuses what is between matrix products. Layers of one kind share what is compiled, so that it takes seconds. A
graph starts hundreds of kernels at once, which one at a time take the CPU longer to start than the GPU to run: text
encoder, decoder and one picture's blocks wait for the CPU otherwise.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vhs.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from torch import nn

Tensors = Any
"""A tensor, or a list or tuple of them."""
_eager = False


def compile_layers(layers: Iterable[nn.Module]) -> None:
    """Has every call of these modules run compiled, anew for each shape of their inputs."""
    for layer in layers:
        layer.compile(dynamic=False)


class Graphed:
    """`function(*tensors)` with a tensor or several as its result: on a GPU a graph for each set of shapes.

    A batch that is one row repeated (`expand`) stays so: what depends on it alone is computed once. The weights that
    the function uses must not move afterwards: a graph reads them where they were. The result is the caller's own.
    """

    def __init__(self, function: Callable[..., Tensors]) -> None:
        self._function, self._graphs = function, {}

    def __call__(self, *tensors: torch.Tensor) -> Tensors:
        if _eager or tensors[0].device.type != "cuda":
            return self._function(*tensors)
        key = tuple((tensor.shape, tensor.dtype, _repeats(tensor)) for tensor in tensors)
        if key not in self._graphs:
            self._graphs[key] = _Graph(self._function, tensors)
        return self._graphs[key](tensors)


class _Graph:
    """One recording of a function, for tensors of certain shapes."""

    def __init__(self, function: Callable[..., Tensors], tensors: tuple[torch.Tensor, ...]) -> None:
        import torch

        self._inputs = [_row(tensor).clone() for tensor in tensors]
        given = [row.expand(tensor.shape) for row, tensor in zip(self._inputs, tensors, strict=True)]
        with _products_as_precise_as(tensors):
            side = torch.cuda.Stream()  # what libraries set up at a first call must not be recorded
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(2):
                    function(*given)
            torch.cuda.current_stream().wait_stream(side)
            gc.collect()
            self._graph = torch.cuda.CUDAGraph()
            # graphs share their memory, since each result is copied before another graph runs
            with torch.cuda.graph(self._graph, pool=_pool()):
                self._result = function(*given)

    def __call__(self, tensors: tuple[torch.Tensor, ...]) -> Tensors:
        for own, tensor in zip(self._inputs, tensors, strict=True):
            own.copy_(_row(tensor))
        self._graph.replay()
        if isinstance(self._result, (list, tuple)):
            return [one.clone() for one in self._result]
        return self._result.clone()


@contextmanager
def _products_as_precise_as(tensors: Iterable[torch.Tensor]) -> Iterator[None]:
    """Inside the context float32 matrix products take TF32, of 11 bits, where the pass computes in 16-bit numbers of 8
    or 11 anyway: SANA's linear attention goes through float32, which a GPU multiplies many times slower."""
    import torch

    before = torch.get_float32_matmul_precision()
    narrow = any(tensor.dtype in (torch.bfloat16, torch.float16) for tensor in tensors)
    torch.set_float32_matmul_precision("high" if narrow else before)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


_shared_pool = None


def _pool() -> Any:
    global _shared_pool
    if _shared_pool is None:
        import torch

        _shared_pool = torch.cuda.graph_pool_handle()
    return _shared_pool


def _repeats(tensor: torch.Tensor) -> bool:
    return tensor.ndim > 0 and len(tensor) > 1 and tensor.stride(0) == 0


def _row(tensor: torch.Tensor) -> torch.Tensor:
    return tensor[:1] if _repeats(tensor) else tensor


@contextmanager
def eagerly() -> Iterator[None]:
    """Nothing inside the context runs compiled: operations are seen one by one, and counted."""
    global _eager
    import torch

    before, _eager = _eager, True
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        _eager = before


def require_compiler(device: str) -> None:
    """Raises ConfigError where `torch.compile` has no compiler for this device."""
    if device.startswith("cuda"):
        found, needed = importlib.util.find_spec("triton") is not None, "triton, which is not installed"
    else:
        names = [os.environ.get("CXX"), "g++", "clang++", "c++"]
        found, needed = any(name and shutil.which(name) for name in names), "a C++ compiler, and none was found"
    if not found:
        raise ConfigError(f"compile: true needs {needed}; install it, or set compile: false")
