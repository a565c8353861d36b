"""Device memory that a resolved run needs, from sizes alone: no weight, GPU or network.

It is counted on the meta device, which takes seconds and torch. What was counted for the shipped architectures is in
data/counted_memory.json (`python -m vhs.measure.shipped --write`), so that a dry run of them needs neither.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from vhs.checkpoints.boundary import loading
from vhs.checkpoints.bounds import read_config
from vhs.config.run import RunConfig
from vhs.files import read_json
from vhs.generators.architecture import shipped_architecture
from vhs.measure.config import read_architecture
from vhs.paths import PROJECT, find
from vhs.resolve import ResolvedRun
from vhs.verifiers.checkpoint import parse_tower
from vhs.verifiers.feature_names import hidden

SHIPPED = PROJECT / "data" / "counted_memory.json"
ARCHITECTURES = {
    "hidden": "hidden_7_qwen2.5-0.5b",
    "latent": "latent_qwen2.5-0.5b",
    "image": "clip_qwen2.5-0.5b",
}
"""The published verifiers' sizes, for one whose config.json is not here."""
TOWER = "clip-vit-large-patch14-336"
"""Its CLIP model's."""
NETWORKS = ("transformer", "vae", "text_encoder")
GENERATOR_KEYS = (
    *("image_width", "image_height", "num_inference_steps", "hidden_step", "use_resolution_binning"),
    *("complex_human_instruction", "max_sequence_length"),
)
VERIFIER_SIZES = (
    *("model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "head_dim", "vocab_size", "tie_word_embeddings", "mm_projector_type"),
)
"""What memory depends on, of a run's keys and of a verifier's config.json."""


@dataclass(frozen=True)
class Counted:
    """Bytes of each model's weights; by stage the model that it needs beside those that stay, and its tensors' peak."""

    weights: Mapping[str, int]
    stages: Mapping[str, tuple[str | None, int]]


@dataclass(frozen=True)
class Needs:
    """Bytes on the device at a prompt's peak: of the weights there in that stage, and of the tensors beside them."""

    stage: str
    weights: int
    tensors: int

    @property
    def peak(self) -> int:
        """Both."""
        return self.weights + self.tensors


@dataclass(frozen=True)
class Method:
    """What a prompt's memory depends on; `at_once` candidates go through the networks in one pass."""

    config: RunConfig
    reads: str
    architecture: str
    tower: str | None
    dtype: str
    at_once: int

    @property
    def key(self) -> str:
        """Of the contents of the architectures' files, whatever their names."""
        folder = shipped_architecture(self.config.ckpt) or find(self.config.ckpt)
        verifier = read_architecture(self.architecture)
        values = [
            [read_config(folder / name / "config.json") for name in NETWORKS],
            [getattr(self.config, name) for name in GENERATOR_KEYS],
            [self.reads, *(verifier.get(name) for name in VERIFIER_SIZES)],
            read_architecture(self.tower) if self.tower else None,
            [self.dtype, self.at_once],
        ]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    def count(self) -> Counted:
        """On the meta device: a full pass, while what is kept of an earlier one is there."""
        from vhs.measure.counted import count_prompt, weights
        from vhs.measure.random_models import random_generator, random_verifier

        keys = {"offload": "none", "micro_batch": self.at_once, "compile": False}
        generator = random_generator(self.config.model_copy(update=keys), "meta", self.dtype)
        made = random_verifier(self.reads, self.architecture, self.tower, generator.info, self.at_once)
        stages = count_prompt(generator, made, 2 * self.at_once)
        return Counted(weights(generator, made), {one.name: (one.needs, one.tensors) for one in stages})


def needs(run: ResolvedRun, dtype: str) -> Needs | None:
    """The stage that needs most, in prod and in a precision; the judge's models are not in it.

    None where the count does not know the models: another generator than SANA-Sprint, a verifier of another kind, or
    sizes that are not here.
    """
    method = method_of(run, dtype)
    if method is None:
        return None
    counted = shipped().get(method.key)
    if counted is None:
        with loading("architecture", run.config.ckpt):
            counted = method.count()
    rows = [
        Needs(name, resident(counted.weights, model, run.config.offload), tensors)
        for name, (model, tensors) in counted.stages.items()
    ]
    return max(rows, key=lambda row: row.peak)


def method_of(run: ResolvedRun, dtype: str) -> Method | None:
    """What is counted of a run; None where `needs` knows nothing."""
    config, verifier = run.config, run.models.verifier
    known = run.models.generator is not None and run.models.generator.info is not None
    if config.generator != "Sana-Sprint" or not known or verifier.kind != "llava":
        return None
    blocks = verifier.blocks or parse_tower(verifier.vision_tower or "hidden")[1]
    if verifier.reads == "hidden" and not blocks:
        return None
    reads = {"hidden": hidden(blocks), "image": "clip"}.get(verifier.reads, verifier.reads)
    at_once = min(config.num_samples, config.at_once)
    return Method(config, reads, _architecture(run), _tower(run), dtype, at_once)


def resident(weights: Mapping[str, int], needed: str | None, offload: str) -> int:
    """Bytes of weights on the device during a stage: all, or with `offload: model` transformer, verifier and the model
    that the stage needs."""
    waiting = {"text_encoder", "autoencoder"} - {needed}
    return sum(count for name, count in weights.items() if offload == "none" or name not in waiting)


@cache
def shipped() -> Mapping[str, Counted]:
    """By key, what was counted of the shipped architectures."""
    rows = read_json(SHIPPED) if SHIPPED.is_file() else {}
    return {key: Counted(row["weights"], row["stages"]) for key, row in rows.items()}


def _architecture(run: ResolvedRun) -> str:
    """The verifier's config.json where that is here, else the published one of its kind."""
    source = run.models.verifier.source
    own = None if source.path is None else Path(source.path) / "config.json"
    return str(own) if own is not None and own.is_file() else ARCHITECTURES[run.models.verifier.reads]


def _tower(run: ResolvedRun) -> str | None:
    tower = getattr(run.models.verifier, "tower", None)
    if tower is None:
        return None
    return str(tower.path / "config.json") if tower.path is not None else TOWER
