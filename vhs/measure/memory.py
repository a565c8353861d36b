"""What a run of the published models holds in memory, counted on the meta device: no weight is read, no GPU is needed.

The whole path runs on tensors without storage, and every tensor's bytes are counted from its creation to its end. What
a GPU adds (its context, the allocator's rounding, libraries' workspaces) is not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GIB = 2**30
RELEASE = "Efficient-Large-Model/Sana_Sprint_1.6B_1024px_diffusers"
QUESTION_TOKENS = 110
"""Text around the picture in the published question about a short prompt, with Qwen2.5's tokenizer."""


class LiveMemory(TorchDispatchMode):
    """Bytes of the tensors that operators make inside the context: `live` now, `peak` at most since `restart`.

    What was there before, such as weights, is not counted, nor are views of it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._held: dict[int, tuple[StorageWeakRef, int]] = {}
        self._foreign: set[int] = set()
        self.peak = 0

    @property
    def live(self) -> int:
        """Bytes that are still referenced; views share their storage and count once."""
        self._held = {key: held for key, held in self._held.items() if not held[0].expired()}
        return sum(size for _, size in self._held.values())

    def restart(self) -> None:
        """`peak` begins again from what is live."""
        self.peak = self.live

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        self._foreign |= {storage._cdata for storage in _storages((args, kwargs))} - self._held.keys()
        out = func(*args, **(kwargs or {}))
        for storage in _storages(out):
            if storage._cdata not in self._foreign:
                self._held.setdefault(storage._cdata, (StorageWeakRef(storage), storage.nbytes()))
        self.peak = max(self.peak, self.live)
        return out


def _storages(values: Any) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]


@dataclass(frozen=True)
class StageMemory:
    """One stage of a run: the model it needs beside those that stay on the device, and its tensors' peak in bytes."""

    name: str
    needs: str | None
    tensors: int


def size(module: nn.Module) -> int:
    """Bytes of a module's parameters and buffers."""
    return sum(t.numel() * t.element_size() for t in [*module.parameters(), *module.buffers()])


@torch.no_grad()
def published_run(candidates: int, micro_batch: int | None, dtype: str) -> tuple[dict[str, int], list[StageMemory]]:
    """Bytes of each model's weights, and the stages of one prompt at 1024 px with the hidden-state verifier."""
    from vhs.generators.architecture import read_generator_info, shipped_architecture
    from vhs.generators.loading import random_pipeline
    from vhs.generators.sana_sprint import SanaSprint
    from vhs.generators.settings import GeneratorSettings
    from vhs.records import TextEmbedding

    folder, settings = (
        shipped_architecture(RELEASE),
        GeneratorSettings(device="meta", dtype=dtype, micro_batch=micro_batch),
    )
    sprint = SanaSprint(random_pipeline(folder, "meta", dtype), read_generator_info(folder, settings), settings)
    verifier, score = _published_verifier(dtype)
    models = {
        "text_encoder": sprint.pipeline.text_encoder,
        "transformer": sprint.transformer,
        "autoencoder": sprint.pipeline.vae,
        "verifier": verifier,
    }
    stages: list[StageMemory] = []
    with LiveMemory() as memory:

        @contextmanager
        def stage(name: str, needs: str | None = None) -> Iterator[None]:
            memory.restart()
            yield
            stages.append(StageMemory(name, needs, memory.peak))

        with stage("encode", "text_encoder"):
            ids = torch.zeros(1, 470, dtype=torch.long, device="meta")
            embeds = models["text_encoder"](ids)[0][:, :300].clone()
        text = TextEmbedding(embeds, torch.ones(1, 300, dtype=torch.long, device="meta"))
        with stage("prefix"):
            prefix = sprint.prefix(sprint.noise(list(range(candidates))), text, 7)
        with stage("score"):
            for part in prefix.hidden.split(micro_batch or candidates):
                score(part)
        with stage("finish"):
            latents = sprint.finish(prefix[[0]])
        del prefix
        with stage("decode", "autoencoder"):
            models["autoencoder"].decode(latents.to(embeds.dtype), return_dict=False)
    return {name: size(model) for name, model in models.items()}, stages


def _published_verifier(dtype: str) -> tuple[nn.Module, Callable[[torch.Tensor], torch.Tensor]]:
    """The hidden-state verifier's LLM and connector on the meta device, and a function that scores hidden states."""
    from vhs.verifiers.architectures import load_architecture
    from vhs.verifiers.connector import build_connector
    from vhs.verifiers.conversation import IMAGE_INDEX
    from vhs.verifiers.hidden import HiddenReader, Statistics
    from vhs.verifiers.llava import build_llm, next_token_logits

    raw, precision = load_architecture("hidden_7_qwen2.5-0.5b"), getattr(torch, dtype)
    with torch.device("meta"):
        connector = build_connector(raw["mm_projector_type"], raw["mm_hidden_size"], raw["hidden_size"])
        numbers = [torch.ones(1, raw["mm_hidden_size"], dtype=precision) for _ in range(2)]
    both = nn.ModuleDict({"llm": build_llm(raw), "connector": connector}).to(precision).eval()
    reader = HiddenReader(raw["mm_hidden_size"], 7, Statistics(*numbers, "statistics"))
    half = QUESTION_TOKENS // 2
    question = [*range(half), IMAGE_INDEX, *range(QUESTION_TOKENS - half)]
    return both, lambda hidden: next_token_logits(both["llm"], both["connector"](reader(hidden)), question)


def resident(weights: dict[str, int], stage: StageMemory, offload: str) -> int:
    """Bytes of weights on the device during a stage: all, or with `offload: model` transformer, verifier and what the
    stage needs."""
    waiting = {"text_encoder", "autoencoder"} - {stage.needs}
    return sum(count for name, count in weights.items() if offload == "none" or name not in waiting)


def report(candidates: int, micro_batch: int | None, dtype: str) -> dict[str, Any]:
    """GiB per model, and per stage: tensors, and the sum with the weights for each `offload`; `peak` is the largest."""
    weights, stages = published_run(candidates, micro_batch, dtype)

    def in_gib(count: int) -> float:
        return round(count / GIB, 2)

    rows = {
        stage.name: {
            "tensors": in_gib(stage.tensors),
            **{offload: in_gib(resident(weights, stage, offload) + stage.tensors) for offload in ("none", "model")},
        }
        for stage in stages
    }
    peak = {offload: max(row[offload] for row in rows.values()) for offload in ("none", "model")}
    return {"weights": {name: in_gib(count) for name, count in weights.items()}, "stages": rows, "peak": peak}
