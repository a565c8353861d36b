"""FLOPs by stage (two per multiply-add) while the method itself runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vhs.stages import StageTimes

NAMES = {"encode": "text", "prefix": "prefix", "generate": "blocks", "score": "LLM", "finish": "suffix",
         "decode": "decode"}  # fmt: skip
"""What a cost table calls the method's stages. `blocks` is prefix and suffix in one go; a verifier's own parts,
`re-encode` and `connector`, are taken out of its `LLM`."""
ORDER = ("text", "prefix", "blocks", "suffix", "decode", "re-encode", "connector", "LLM")


def flop_counter() -> FlopCounterMode:
    """torch's counter with a formula for every attention kernel: its own knows none of CPUs, nor, in torch 2.11, fewer
    heads of keys than of queries."""
    kernels = ("flash_attention", "efficient_attention", "cudnn_attention", "flash_attention_for_cpu")
    named = {getattr(torch.ops.aten, f"_scaled_dot_product_{kernel}"): _attention for kernel in kernels}
    return FlopCounterMode(display=False, custom_mapping=named)


def _attention(query: Any, key: Any, value: Any, *args: Any, out_val: Any = None, **kwargs: Any) -> int:
    """Scores and weighted values of all of `query`'s heads, (batch, heads, length, width) each; a causal mask, which a
    kernel may use to skip half of them, is not looked at."""
    batch, heads, length, width = query.shape
    return 2 * batch * heads * length * key.shape[2] * (width + value.shape[3])


_attention._get_raw = True  # it is handed tensors, not their shapes


def parts_of(verifier: Any) -> dict[str, nn.Module]:
    """The modules of a verifier whose cost is shown beside its language model's."""
    tower = getattr(getattr(verifier, "reader", None), "tower", None)
    found = {"re-encode": tower, "connector": getattr(verifier, "connector", None)}
    return {name: module for name, module in found.items() if module is not None}


@contextmanager
def counting(flops: Counter[str], rest: str, parts: Mapping[str, nn.Module]) -> Iterator[None]:
    """Adds the FLOPs inside the context to `flops`: those of `parts` to their names, the others to `rest`."""
    with flop_counter() as counter, ExitStack() as hooks:
        inside: Counter[str] = Counter()
        for name, module in parts.items():
            begin = module.register_forward_pre_hook(lambda *_, name=name: inside.subtract({name: total()}))
            end = module.register_forward_hook(lambda *_, name=name: inside.update({name: total()}))
            hooks.callback(begin.remove), hooks.callback(end.remove)

        def total() -> int:
            return counter.get_total_flops()

        yield
        flops.update(inside)
        flops[rest] += total() - sum(inside.values())


class StageFlops(StageTimes):
    """Stands in for a method's stopwatch and counts FLOPs as well; counting takes time, so its seconds say nothing."""

    def __init__(self, verifier: Any) -> None:
        super().__init__()
        self.parts = parts_of(verifier)
        self.flops: Counter[str] = Counter()

    @contextmanager
    def stage(self, name: str, items: int = 1) -> Iterator[None]:
        """Adds what the stage computes to `flops`."""
        with super().stage(name, items), counting(self.flops, NAMES.get(name, name), self.parts):
            yield
