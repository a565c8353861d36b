"""A set of candidates whose features are made when they are read: prompts, seeds and verdicts are stored, features are
not. It has the interface of `store.CollectedSet`, and the same values as a set that collect.py makes of its file.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vhs.config.run import RunConfig, load_config
from vhs.config.yamlfile import load
from vhs.device import resolve_device, resolve_dtype
from vhs.errors import ConfigError
from vhs.files import as_json
from vhs.generators.base import stopped_at
from vhs.paths import find
from vhs.processes import Process, current_process
from vhs.prompts import read_prompts
from vhs.records import Prompt, TextEmbedding
from vhs.training.config import Generated
from vhs.training.data.collect import plan
from vhs.training.data.features import LARGEST, STORED, require_finite
from vhs.training.data.layout import CandidateSet
from vhs.training.data.passes import noise_of, text_of
from vhs.training.data.store import CollectedSet
from vhs.training.data.tasks import CollectConfig
from vhs.verifiers.feature_names import blocks_in

if TYPE_CHECKING:
    import torch

    from vhs.generators import Generator, GeneratorSpec

GENERATOR_KEYS_LEFT_OUT = frozenset({"micro_batch", "offload", "device"})
"""Keys of the generator that change how fast it runs, not what it gives (but by rounding)."""
TEXTS = 1024
"""Embeddings that are kept, of the prompts that were read last."""


def open_source(named: str | Generated) -> CollectedSet | GeneratedSet:
    """The set that an entry of `data` names. Raises ConfigError."""
    return CollectedSet(named) if isinstance(named, str) else GeneratedSet(named)


def resolve_generation(config: CollectConfig, process: Process) -> tuple[GeneratorSpec, RunConfig]:
    """The generator of a collecting, every file of it here, and the run configuration that names it."""
    from vhs.generators import resolve_generator

    run = load_config(config.run, config.run_overrides)
    if config.micro_batch is not None:
        run = run.changed(micro_batch=config.micro_batch)
    device = resolve_device(run.device, process)
    return resolve_generator(run, device, resolve_dtype(run.dtype, device)).fetched(), run


def generator_settings(spec: GeneratorSpec, run: RunConfig, config: CollectConfig) -> dict[str, Any]:
    """What the values of a set depend on: the generator, its adapter, its settings, and their files' content."""
    from vhs.checkpoints.hashes import content_hash
    from vhs.verifiers.load import fetched_tower, find_tower

    kept = {key: value for key, value in asdict(spec.settings).items() if key not in GENERATOR_KEYS_LEFT_OUT}
    network = {"network_ckpt": run.network_ckpt} if run.network_ckpt else {}
    content = {source.key: content_hash(source.path) for source in spec.sources}
    if config.clip:
        content["clip"] = content_hash(fetched_tower(find_tower(config.clip)).path)
    return {"ckpt": run.ckpt, **network, "sana_lora_weights": run.sana_lora_weights, **kept, "content": content}


class GeneratedSet(CandidateSet):
    """The candidates of a collecting file, made again whenever they are read. Raises ConfigError."""

    def __init__(self, named: Generated) -> None:
        self.named = named
        self.config = load(CollectConfig, named.generate, named.overrides)
        if self.config.clip is not None or self.config.dtype in LARGEST:
            raise ConfigError(
                f"data: {named.generate}: features of a tower (clip) and of 8 bits are not made beside a training; "
                "collect them"
            )
        self.folder = Path(self.config.output)
        self.spec, run = resolve_generation(self.config, current_process())
        prompts = read_prompts(find(self.config.annotation))[: self.config.limit]
        settings = generator_settings(self.spec, run, self.config)
        layout = plan(self.spec.info, len(prompts), self.config, settings)
        super().__init__(layout, prompts, named.generate)
        files = {"labels": named.labels, "captions": named.captions}
        self.own = {key: str(find(file).absolute()) for key, file in files.items() if file is not None}
        self._texts: OrderedDict[int, TextEmbedding] = OrderedDict()

    def expect(self, shard: int) -> None:
        """Nothing is read ahead of what is made."""

    def fingerprint(self) -> str:
        """A hash of everything that the features depend on."""
        prompts = [(prompt.id, prompt.text) for prompt in self.prompts]
        return hashlib.sha256(as_json({"layout": asdict(self.layout), "prompts": prompts})).hexdigest()

    def gather(self, feature: str, indices: Sequence[int]) -> torch.Tensor:
        """Features (B, ...) of the samples, rounded as collect.py stores them, on the generator's device."""
        import torch

        self.require(feature)
        pairs = [(self.prompt(index), index % self.layout.candidates) for index in indices]
        if self._generator.mixes_prompts:
            values = self._made(feature, pairs)
        else:
            values = torch.cat([self._made(feature, [pair]) for pair in pairs])
        require_finite(values, feature, lambda row: self.name(indices[row]), "try dtype: float32 in the run's file")
        return values

    def _made(self, feature: str, pairs: Sequence[tuple[Prompt, int]]) -> torch.Tensor:
        noise = noise_of(self._generator, pairs, self.config.seed)
        text = text_of([self._text(prompt) for prompt, _ in pairs])
        if feature == "latent":
            values = self._generator.generate(noise, text)
        else:
            values = stopped_at(self._generator, noise, text, blocks_in(feature))[0]
        return values.to(STORED[self.layout.dtype])

    def _text(self, prompt: Prompt) -> TextEmbedding:
        if prompt.id not in self._texts:
            self._texts[prompt.id] = self._generator.encode([prompt.text])[0]
            if len(self._texts) > TEXTS:
                self._texts.popitem(last=False)
        self._texts.move_to_end(prompt.id)
        return self._texts[prompt.id]

    @cached_property
    def _generator(self) -> Generator:
        return self.spec.load()
