"""`generator: diffusers` before it is loaded: a pipeline of any family, its files, its sizes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from vhs.checkpoints.boundary import loading
from vhs.checkpoints.hub import download
from vhs.checkpoints.source import Source, find_model
from vhs.config.run import GeneratorKeys
from vhs.generators.architecture import shipped_architecture
from vhs.generators.base import Generator, GeneratorInfo
from vhs.generators.call_arguments import PipelineSettings, build_scheduler, call_arguments
from vhs.generators.description import DESCRIBED_BY, Description, describe
from vhs.generators.diffusers_pipeline import DiffusersPipeline, pipeline_info
from vhs.generators.lora import PATTERNS as LORA_FILES
from vhs.generators.lora import lora_file
from vhs.generators.pipeline_loading import NETWORK_FILES, REST, WEIGHTS, check_weights
from vhs.generators.spec import GeneratorSpec


@dataclass(frozen=True)
class PipelineSpec(GeneratorSpec):
    """As `GeneratorSpec`; `network` is where network and scheduler come from (None: from the pipeline itself)."""

    network: Source | None = None

    @property
    def sources(self) -> tuple[Source, ...]:
        """The files that it reads."""
        return tuple(source for source in (self.source, self.network, self.adapter) if source is not None)

    def fetched(self) -> PipelineSpec:
        """The same with every file here and whole, as far as headers tell. Raises ConfigError or CheckpointError."""
        source, network, adapter = (
            one.fetched() if one is not None else None for one in (self.source, self.network, self.adapter)
        )
        if adapter is not None:
            lora_file(adapter.path)
        spec = replace(self, source=source, network=network, adapter=adapter)
        check_weights(spec._description())
        return replace(spec, info=_checked(spec._description(), self.settings))

    def load(self) -> Generator:
        """The generator, on its device. Raises CheckpointError."""
        adapter = lora_file(self.adapter.require()) if self.adapter else None
        with loading("generator", self.source.name):
            return DiffusersPipeline.load(self._description(), self.settings, adapter)

    def _description(self) -> Description:
        return describe(self.source.require(), self.network.require() if self.network else None)


def resolve_pipeline(keys: GeneratorKeys, device: str, dtype: str, offline: bool = False) -> PipelineSpec:
    """Finds the pipeline that `keys` name and checks what its JSON files tell: its class, block, size, steps,
    arguments.

    Raises ConfigError or CheckpointError for what cannot run.
    """
    network = find_model("network_ckpt", keys.network_ckpt, NETWORK_FILES) if keys.network_ckpt else None
    source = find_model("ckpt", keys.ckpt, REST if network else WEIGHTS)
    settings = PipelineSettings.of(keys, device, dtype)
    description = _described(source, network, offline)
    info = _checked(description, settings) if description else None
    adapter = find_model("sana_lora_weights", keys.sana_lora_weights, LORA_FILES) if keys.sana_lora_weights else None
    return PipelineSpec(source, adapter, settings, info, network)


def _described(source: Source, network: Source | None, offline: bool) -> Description | None:
    """From files that are here, the architectures shipped, or the Hub's JSON files."""
    shipped = shipped_architecture((network or source).name)
    if shipped and not all(_is_here(one) for one in (source, network) if one is not None):
        return describe(shipped)
    folders = [_json_folder(one, offline) if one else None for one in (source, network)]
    return None if folders[0] is None or (network and folders[1] is None) else describe(*folders)


def _is_here(source: Source) -> bool:
    return source.path is not None and (source.repository is None or (source.path / DESCRIBED_BY[0]).is_file())


def _json_folder(source: Source, offline: bool) -> Path | None:
    if _is_here(source):
        return source.path
    return None if offline else download(source.name, source.key, DESCRIBED_BY)


def _checked(description: Description, settings: PipelineSettings) -> GeneratorInfo:
    """Sizes of the pipeline under the run's keys, all of which it takes."""
    with loading("generator", description.folder):
        call_arguments(description, settings)
        build_scheduler(description, settings)
        return pipeline_info(description, settings)
