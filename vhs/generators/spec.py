"""A generator before it is loaded: where its files are, its sizes, how it will run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vhs.checkpoints.boundary import loading
from vhs.checkpoints.hub import download
from vhs.checkpoints.source import Source, find_model
from vhs.compiled import require_compiler
from vhs.config.run import GeneratorKeys
from vhs.generators.architecture import CONFIG_FILES, read_generator_info, shipped_architecture
from vhs.generators.base import Generator, GeneratorInfo
from vhs.generators.files import WEIGHTS, check_weight_files
from vhs.generators.lora import PATTERNS as LORA_FILES
from vhs.generators.lora import lora_file
from vhs.generators.settings import GeneratorSettings

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class GeneratorSpec:
    """Everything that loading needs; `adapter` is a LoRA's folder or file. `info` is None as long as the JSON files
    are not here (a dry run without a network)."""

    source: Source
    adapter: Source | None
    settings: GeneratorSettings
    info: GeneratorInfo | None

    @property
    def sources(self) -> tuple[Source, ...]:
        """The files that it reads."""
        return (self.source, *([self.adapter] if self.adapter else []))

    def fetched(self) -> GeneratorSpec:
        """The same with every file here and whole, as far as headers tell. Raises CheckpointError."""
        source = self.source.fetched()
        check_weight_files(source.path)
        adapter = self.adapter.fetched() if self.adapter else None
        if adapter is not None:
            lora_file(adapter.path)
        info = self.info or read_generator_info(source.path, self.settings)
        return replace(self, source=source, adapter=adapter, info=info)

    def load(self) -> Generator:
        """The generator, on its device. Raises CheckpointError."""
        from vhs.generators.sana_sprint import SanaSprint

        adapter = lora_file(self.adapter.require()) if self.adapter else None
        with loading("generator", self.source.name):
            return SanaSprint.load(self.source.require(), self.settings, adapter)


def resolve_generator(keys: GeneratorKeys, device: str, dtype: str, offline: bool = False) -> GeneratorSpec:
    """Finds the generator that `keys` name and checks what its files tell without a tensor being read.

    A repository that is not in the Hub's cache is checked against the architecture shipped here where there is one;
    otherwise its JSON files are fetched, unless `offline`. Raises ConfigError or CheckpointError for what cannot run.
    """
    if keys.generator == "diffusers":
        from vhs.generators.pipeline_spec import resolve_pipeline

        return resolve_pipeline(keys, device, dtype, offline)
    if keys.compile:
        require_compiler(device)
    source = find_model("ckpt", keys.ckpt, WEIGHTS)
    settings = GeneratorSettings.of(keys, device, dtype)
    described_in = _described_in(source, offline)
    info = read_generator_info(described_in, settings) if described_in else None
    adapter = find_model("sana_lora_weights", keys.sana_lora_weights, LORA_FILES) if keys.sana_lora_weights else None
    return GeneratorSpec(source, adapter, settings, info)


def _described_in(source: Source, offline: bool) -> Path | None:
    """The folder of the JSON files that give the generator's sizes."""
    if source.path is not None and (source.repository is None or (source.path / CONFIG_FILES[0]).is_file()):
        return source.path
    shipped = shipped_architecture(source.name)
    return shipped or (None if offline else download(source.name, source.key, CONFIG_FILES))
