"""Generators: what makes pictures. `load_generator` and `check_generator` take a run's configuration."""

from __future__ import annotations

from typing import Any

from vhs.checkpoints.hub import cached_folder, find_folder, is_hub_id, local_folder
from vhs.errors import ConfigError
from vhs.generators.architecture import CONFIG_FILES, read_generator_info, shipped_architecture
from vhs.generators.base import Generator, GeneratorInfo
from vhs.generators.files import WEIGHTS, check_weight_files
from vhs.generators.lora import find_lora
from vhs.generators.settings import GeneratorSettings, check_device

__all__ = [
    "WEIGHTS",
    "Generator",
    "GeneratorInfo",
    "GeneratorSettings",
    "check_generator",
    "load_generator",
    "read_generator_info",
]


def check_generator(config: Any) -> GeneratorInfo:
    """Sizes of the generator that `config` names; raises ConfigError or CheckpointError for what cannot run.

    Reads JSON files and the headers of weight files, no tensors. A repository that is not in the Hub's cache is checked
    against the architecture shipped here where there is one, and otherwise its JSON files are fetched.
    """
    settings = _settings(config)
    check_device(settings.device)
    local = local_folder(config.ckpt) or (cached_folder(config.ckpt, CONFIG_FILES) if is_hub_id(config.ckpt) else None)
    folder = local or shipped_architecture(config.ckpt) or find_folder(config.ckpt, "ckpt", CONFIG_FILES)
    info = read_generator_info(folder, settings)
    if local_folder(config.ckpt):
        check_weight_files(folder)
    if settings.sana_lora_weights and not is_hub_id(settings.sana_lora_weights):
        find_lora(settings.sana_lora_weights)
    return info


def load_generator(config: Any) -> Generator:
    """The generator that `config` (a RunConfig, or any object with its attributes) names, downloaded where needed."""
    settings = _settings(config)
    check_device(settings.device)
    from vhs.generators.sana_sprint import SanaSprint

    return SanaSprint.load(find_folder(config.ckpt, "ckpt", WEIGHTS), settings)


def _settings(config: Any) -> GeneratorSettings:
    kind = getattr(config, "generator", "Sana-Sprint")
    if kind != "Sana-Sprint":
        raise ConfigError(f"generator: {kind!r} is not known; the only one is Sana-Sprint")
    return GeneratorSettings.from_config(config)
