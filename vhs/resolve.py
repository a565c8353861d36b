"""From a configuration to its parts: what they are, whether they fit each other, and the loaded models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vhs.config.run import RunConfig
from vhs.errors import CheckpointError, ConfigError
from vhs.paths import find
from vhs.processes import Process
from vhs.verifiers.registry import VerifierEntry, load_registry, resolve_verifier

if TYPE_CHECKING:
    from vhs.generators.base import Generator, GeneratorInfo
    from vhs.geneval.evaluate import GenEval
    from vhs.verifiers.base import Verifier

PATH_KEYS = (
    "ckpt",
    "annotation",
    "latent_verifier_path",
    "vision_tower",
    "normalization_mean_path",
    "normalization_variance_path",
    "tokenizer_path",
    "lora_weights",
    "sana_lora_weights",
    "object_names",
    "segmentation_ckpt_path",
    "segmentation_config_path",
)
LOCAL_DIR = "local-dir:"
DOWNLOAD = "python inference_scripts/download.py --config <your config>"


@dataclass(frozen=True)
class Choice:
    """Which verifier a configuration means: a registry entry, keys of the configuration, or both (keys win)."""

    kind: str
    path: str | None = None
    vision_tower: str | None = None
    resize_vocabulary: bool = False


def settle(config: RunConfig, shard: Process = Process()) -> RunConfig:
    """The configuration with a concrete device and precision, and with paths where their files are."""
    paths = {key: str(find(value)) for key in PATH_KEYS if (value := getattr(config, key)) is not None}
    colors = config.color_classifier
    if colors.startswith(LOCAL_DIR):
        colors = LOCAL_DIR + str(find(colors.removeprefix(LOCAL_DIR)))
    return on_device(config, shard).changed(**paths, color_classifier=colors)


def on_device(config: RunConfig, shard: Process = Process()) -> RunConfig:
    """The configuration with `auto` replaced: CUDA where there is one, float32 on the CPU and bfloat16 elsewhere."""
    device = config.device
    if device == "auto":
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and shard.count > 1:
        device = f"cuda:{shard.local}"
    dtype = config.dtype if config.dtype != "auto" else "float32" if device == "cpu" else "bfloat16"
    return config.changed(device=device, dtype=dtype)


def verifier_choice(config: RunConfig) -> Choice:
    """Raises ConfigError for a name that the registry does not have and no path replaces."""
    if not config.latent_verifier:
        return Choice("none")
    name, path = config.latent_verifier_name, config.latent_verifier_path
    known = name is not None and (path is None or name in load_registry())
    entry = resolve_verifier(name) if known else VerifierEntry(name or "")
    resize = entry.resize_vocabulary if config.resize_vocabulary is None else config.resize_vocabulary
    return Choice(entry.kind, path or entry.latent_verifier_path, config.vision_tower or entry.vision_tower, resize)


def load_generator(config: RunConfig) -> Generator:
    """The generator of a settled configuration. Raises ConfigError or CheckpointError."""
    from vhs.generators import load_generator as load

    _hide_loading_bars()
    return load(config)


def load_verifier(config: RunConfig) -> Verifier | None:
    """The verifier of a settled configuration, None where it has none. Raises ConfigError or CheckpointError."""
    choice = verifier_choice(config)
    if choice.kind == "none":
        return None
    if choice.kind == "random":
        from vhs.verifiers import RandomVerifier

        return RandomVerifier(config.seed)
    from vhs.verifiers import load_verifier as load

    _hide_loading_bars()
    adapted = {key: getattr(config, key) for key in ("tokenizer_path", "lora_weights") if getattr(config, key)}
    return load(
        choice.path,
        vision_tower=choice.vision_tower,
        normalization_mean_path=config.normalization_mean_path,
        normalization_variance_path=config.normalization_variance_path,
        use_generation_prompt=config.use_generation_prompt,
        resize_vocabulary=choice.resize_vocabulary,
        dtype=config.dtype,
        device=config.device,
        micro_batch=config.micro_batch,
        **adapted,
    )


def load_judge(config: RunConfig) -> GenEval:
    """The evaluator of a settled configuration that `judges`. Raises ConfigError or CheckpointError."""
    from vhs.geneval.evaluate import GenEval

    return GenEval.from_config(config)


def _hide_loading_bars() -> None:
    """The libraries' own bars for every file would bury the run's; downloads keep theirs."""
    from diffusers.utils import logging as diffusers
    from transformers.utils import logging as transformers

    diffusers.disable_progress_bar()
    transformers.disable_progress_bar()


def check(config: RunConfig) -> tuple[GeneratorInfo, Any]:
    """What files can tell before a tensor is read: (the generator's sizes, the verifier's VerifierConfig or None).

    Raises ConfigError or CheckpointError for parts that are missing or do not fit each other.
    """
    from vhs.generators import check_generator

    for key in ("normalization_mean_path", "normalization_variance_path", "segmentation_ckpt_path", "object_names"):
        path = getattr(config, key)
        if path is not None and not Path(path).exists():
            raise CheckpointError(f"{key}: {path} is missing; to fetch what a run needs: {DOWNLOAD}")
    if config.judges:
        _check_judge(config)
    info = check_generator(config)
    choice = verifier_choice(config)
    if choice.kind != "llava":
        return info, None
    from vhs.verifiers import check_verifier

    verifier = check_verifier(
        choice.path,
        choice.vision_tower,
        config.normalization_mean_path,
        config.normalization_variance_path,
        info.tokens,
    )
    if verifier.reads == "hidden":
        info.require_block(verifier.block)
        info.require_width(verifier.width)
    if verifier.reads in ("hidden", "latent") and config.imgs_path:
        raise ConfigError(
            f"imgs_path: the verifier reads {verifier.reads} features, which pictures do not have; "
            "choose one that reads pictures, or latent_verifier: false with generation_mode: dev"
        )
    return info, verifier


def _check_judge(config: RunConfig) -> None:
    """The detector is the one that belongs to its class names, as far as files tell."""
    from vhs.geneval.detector import converted_from
    from vhs.geneval.metadata import read_names
    from vhs.geneval.selfcheck import check_files

    path = config.segmentation_ckpt_path
    check_files(read_names(config.object_names), path, converted_from(path))
    colors = config.color_classifier.removeprefix(LOCAL_DIR)
    if colors != config.color_classifier and not Path(colors).is_dir():
        raise CheckpointError(f"color_classifier: {colors} is missing; to fetch what a run needs: {DOWNLOAD}")


def checkpoint_hashes(config: RunConfig) -> dict[str, Any]:
    """What run.json records of every checkpoint that a settled configuration reads, by the key that names it."""
    from vhs.checkpoints.hashes import checkpoint_hash
    from vhs.checkpoints.hub import find_folder
    from vhs.generators import WEIGHTS
    from vhs.verifiers import read_verifier_config

    places: dict[str, Path] = {}
    if not (config.imgs_path or config.re_eval):
        places["ckpt"] = find_folder(config.ckpt, "ckpt", WEIGHTS)
    choice = verifier_choice(config)
    if choice.kind == "llava":
        places["latent_verifier_path"] = read_verifier_config(choice.path, choice.vision_tower).folder
    keys = ["normalization_mean_path", "normalization_variance_path", "lora_weights", "sana_lora_weights"]
    if config.judges:
        keys.append("segmentation_ckpt_path")
        if config.color_classifier.startswith(LOCAL_DIR):
            places["color_classifier"] = Path(config.color_classifier.removeprefix(LOCAL_DIR))
    places |= {key: Path(value) for key in keys if (value := getattr(config, key)) and Path(value).exists()}
    return {key: checkpoint_hash(place) for key, place in places.items()}
