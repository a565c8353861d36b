"""Device memory that a resolved run needs, counted on the meta device from sizes alone: no weight, GPU or network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vhs.measure.memory import resident
from vhs.resolve import ResolvedRun
from vhs.verifiers.checkpoint import parse_tower
from vhs.verifiers.feature_names import hidden

ARCHITECTURES = {
    "hidden": "hidden_7_qwen2.5-0.5b",
    "latent": "latent_qwen2.5-0.5b",
    "image": "clip_qwen2.5-0.5b",
}
"""The published verifiers' sizes, for one whose config.json is not here."""
TOWER = "clip-vit-large-patch14-336"
"""Its CLIP model's."""


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


def needs(run: ResolvedRun, dtype: str) -> Needs | None:
    """The stage that needs most, in prod and in a precision; the judge's models are not in it.

    None where the count does not know the models: another generator than SANA-Sprint, a verifier of another kind, or
    sizes that are not here.
    """
    from vhs.measure.counted import count_prompt, weights
    from vhs.measure.random_models import random_generator, random_verifier

    config, verifier = run.config, run.models.verifier
    known = run.models.generator is not None and run.models.generator.info is not None
    if config.generator != "Sana-Sprint" or not known or verifier.kind != "llava":
        return None
    generator = random_generator(config.model_copy(update={"offload": "none"}), "meta", dtype)
    blocks = verifier.blocks or parse_tower(verifier.vision_tower or "hidden")[1]
    if verifier.reads == "hidden" and not blocks:
        return None
    reads = {"hidden": hidden(blocks), "image": "clip"}.get(verifier.reads, verifier.reads)
    made = random_verifier(reads, _architecture(run), _tower(run), generator.info, config.micro_batch)
    of_models = weights(generator, made)
    rows = [
        Needs(stage.name, resident(of_models, stage, config.offload), stage.tensors)
        for stage in count_prompt(generator, made, config.num_samples)
    ]
    return max(rows, key=lambda row: row.peak)


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
