"""A SANA-Sprint folder's sizes, read from its JSON files: enough to refuse a run before any weight is touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vhs.checkpoints.boundary import loading
from vhs.checkpoints.bounds import read_config
from vhs.errors import CheckpointError, ConfigError
from vhs.generators.base import GeneratorInfo
from vhs.generators.settings import GeneratorSettings

CONFIG_FILES = ("model_index.json", "transformer/config.json", "vae/config.json", "scheduler/scheduler_config.json")
SHIPPED = {
    "Efficient-Large-Model/Sana_Sprint_1.6B_1024px_diffusers": "sana_sprint_1.6b",
    "Efficient-Large-Model/Sana_Sprint_0.6B_1024px_diffusers": "sana_sprint_0.6b",
    "Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers": "sana_1.5_1.6b",
    "PixArt-alpha/PixArt-Alpha-DMD-XL-2-512x512": "pixart_alpha_dmd_512",
    "black-forest-labs/FLUX.1-schnell": "flux.1_schnell",
    "stabilityai/stable-diffusion-3.5-large-turbo": "sd3.5_large_turbo",
}
"""Hub repositories whose architecture is shipped here, so that a run can be checked before it is downloaded."""


def shipped_architecture(repository: str) -> Path | None:
    """The folder of JSON files shipped for a Hub repository, if there is one."""
    name = SHIPPED.get(repository)
    return Path(__file__).parent / "architectures" / name if name else None


def read_generator_info(folder: Path | str, settings: GeneratorSettings | None = None) -> GeneratorInfo:
    """Sizes of the generator in `folder` (as `SanaSprintPipeline.save_pretrained` writes it) under `settings`.

    Raises CheckpointError for a folder of another kind and ConfigError for settings that do not fit it.
    """
    with loading("generator", folder):
        return _info(Path(folder), settings or GeneratorSettings())


def _info(folder: Path, settings: GeneratorSettings) -> GeneratorInfo:
    index = _read(folder / "model_index.json")
    if index.get("_class_name") != "SanaSprintPipeline":
        raise CheckpointError(
            f"{folder / 'model_index.json'}: is a {index.get('_class_name')}; the generator Sana-Sprint needs a "
            "SanaSprintPipeline, generator: diffusers takes any text-to-image pipeline"
        )
    transformer = _Keys(folder / "transformer" / "config.json")
    if not transformer["guidance_embeds"]:
        raise CheckpointError(f"{transformer.path}: guidance_embeds is false; SANA-Sprint embeds its guidance")
    scale = 2 ** (len(_Keys(folder / "vae" / "config.json")["encoder_block_out_channels"]) - 1)
    scheduler = _Keys(folder / "scheduler" / "scheduler_config.json")
    if scheduler["prediction_type"] != "trigflow":
        kind = scheduler["prediction_type"]
        raise CheckpointError(f"{scheduler.path}: prediction_type is {kind}; SANA-Sprint samples in trigflow")
    for keys, name in ((scheduler, "sigma_data"), (transformer, "guidance_embeds_scale")):
        value = keys.get(name, 0.1)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e6:
            raise CheckpointError(f"{keys.path}: {name} is {value!r}; a positive number is needed")
    height, width = network_size(settings, transformer["sample_size"])
    patch = transformer["patch_size"]
    _require_multiple(height, width, max(32, scale * patch))
    latent = (transformer["in_channels"], height // scale, width // scale)
    return GeneratorInfo(
        blocks=transformer["num_layers"],
        width=transformer["num_attention_heads"] * transformer["attention_head_dim"],
        tokens=latent[1] * latent[2] // patch**2,
        latent_shape=latent,
        image_size=(settings.image_height, settings.image_width),
        steps=settings.num_inference_steps,
        step=settings.step,
        device=settings.device,
        dtype=settings.dtype,
    )


def network_size(settings: GeneratorSettings, sample_size: int) -> tuple[int, int]:
    """(height, width) in pixels that the network works at: the requested ones, or the nearest bin of theirs."""
    if not settings.use_resolution_binning:
        return settings.image_height, settings.image_width
    if sample_size != 32:
        raise ConfigError(
            f"use_resolution_binning: needs a generator made for 1024 px (sample_size 32), this one has {sample_size}; "
            "set it to false"
        )
    from diffusers.image_processor import PixArtImageProcessor
    from diffusers.pipelines.pixart_alpha.pipeline_pixart_alpha import ASPECT_RATIO_1024_BIN

    height, width = PixArtImageProcessor.classify_height_width_bin(
        settings.image_height, settings.image_width, ratios=ASPECT_RATIO_1024_BIN
    )
    return int(height), int(width)


def _read(path: Path) -> dict[str, Any]:
    return read_config(path, remedy=f"a SANA-Sprint folder has {', '.join(CONFIG_FILES)}")


class _Keys:
    """A JSON file whose missing keys are errors that name the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._values = _read(path)

    def get(self, key: str, default: Any) -> Any:
        return self._values.get(key, default)

    def __getitem__(self, key: str) -> Any:
        if key not in self._values:
            raise CheckpointError(f"{self.path}: has no key {key}; it is not a file that diffusers wrote")
        return self._values[key]


def _require_multiple(height: int, width: int, unit: int) -> None:
    for key, value in (("image_height", height), ("image_width", width)):
        if value % unit:
            below = value // unit * unit
            nearest = f"{below} or {below + unit}" if below else f"{unit}"
            raise ConfigError(f"{key}: {value} is not a multiple of {unit}; use {nearest}")
