"""What a run of the published models holds in memory, counted on the meta device without a weight or a GPU."""

from __future__ import annotations

from typing import Any

from vhs.config.run import load_config
from vhs.measure.counted import CountedStage, count_prompt, weights
from vhs.measure.memory import GIB
from vhs.measure.needs import resident
from vhs.measure.random_models import random_generator, random_verifier


def published_run(candidates: int, micro_batch: int | None, dtype: str) -> tuple[dict[str, int], list[CountedStage]]:
    """Bytes of each model's weights, and the stages of one prompt at 1024 px with the hidden-state verifier."""
    config = load_config("configs/sana_sprint.yaml", {"micro_batch": micro_batch})
    generator = random_generator(config, "meta", dtype)
    verifier = random_verifier("hidden_7", "hidden_7_qwen2.5-0.5b", None, generator.info, micro_batch)
    return weights(generator, verifier), count_prompt(generator, verifier, candidates)


def report(candidates: int, micro_batch: int | None, dtype: str) -> dict[str, Any]:
    """GiB per model, and per stage: tensors, and the sum with the weights for each `offload`; `peak` is the largest."""
    held, stages = published_run(candidates, micro_batch, dtype)

    def in_gib(count: int) -> float:
        return round(count / GIB, 2)

    rows = {
        stage.name: {
            "tensors": in_gib(stage.tensors),
            **{offload: in_gib(resident(held, stage.needs, offload) + stage.tensors) for offload in ("none", "model")},
        }
        for stage in stages
    }
    peak = {offload: max(row[offload] for row in rows.values()) for offload in ("none", "model")}
    return {"weights": {name: in_gib(count) for name, count in held.items()}, "stages": rows, "peak": peak}
