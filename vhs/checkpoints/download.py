"""Everything that a run reads from elsewhere: what it is, how large, whether it is here, fetched and verified."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from vhs import resolve as parts
from vhs.checkpoints.fetch import Asset, HubFile, Say, cached, fetch, list_files
from vhs.checkpoints.hub import is_hub_id, local_folder
from vhs.config.run import RunConfig
from vhs.errors import CheckpointError

RELEASE_FILES = "aimagelab/vhs-checkpoints"
"""The release's dataset repository of single files: statistics of hidden states, GenEval's detector."""


def needed(config: RunConfig) -> Iterator[Asset]:
    """What a settled configuration needs and does not have as local files, in the order of loading.

    A verifier's config.json, which may name a CLIP tower, is fetched on the way. Raises CheckpointError for a missing
    folder that no Hub id names.
    """
    from vhs.generators import WEIGHTS
    from vhs.generators.lora import PATTERNS

    yield from _folder("ckpt", config.ckpt, WEIGHTS)
    yield from _folder("sana_lora_weights", config.sana_lora_weights, PATTERNS)
    choice = parts.verifier_choice(config)
    if choice.kind == "llava":
        yield from _verifier(config, choice)
    for key in ("normalization_mean_path", "normalization_variance_path"):
        yield from _file(key, getattr(config, key))
    if config.judges:
        yield from _file("segmentation_ckpt_path", config.segmentation_ckpt_path)
        yield from _colors(config.color_classifier)


def _verifier(config: RunConfig, choice: parts.Choice) -> Iterator[Asset]:
    from vhs.verifiers.checkpoint import read_verifier_config
    from vhs.verifiers.clip import PICKLED_TOWER, TOWER_FILES
    from vhs.verifiers.hub import VERIFIER_FILES
    from vhs.verifiers.lora import ADAPTER_FILES

    yield from _folder("latent_verifier_path", choice.path, VERIFIER_FILES)
    yield from _folder("tokenizer_path", config.tokenizer_path, VERIFIER_FILES)
    yield from _folder("lora_weights", config.lora_weights, ADAPTER_FILES)
    verifier = read_verifier_config(choice.path, choice.vision_tower)
    if verifier.tower and not local_folder(verifier.tower, (verifier.folder, verifier.folder.parent)):
        yield from _folder("vision_tower", verifier.tower, (*TOWER_FILES, PICKLED_TOWER))


def _folder(key: str, name: str | None, patterns: tuple[str, ...]) -> Iterator[Asset]:
    if name is None or local_folder(name) or Path(name).is_file():
        return
    if not is_hub_id(name):
        raise CheckpointError(f"{key}: {name}: no such folder, and no Hub id (owner/name) that could be fetched")
    yield Asset(key, name, tuple(patterns))


def _file(key: str, path: str | None) -> Iterator[Asset]:
    if path is not None and not Path(path).exists():
        yield Asset(key, RELEASE_FILES, (Path(path).name,), "dataset", Path(path))


def _colors(name: str) -> Iterator[Asset]:
    if name.startswith(parts.LOCAL_DIR):
        return
    import open_clip

    from vhs.geneval.colors import openai_options

    openai_options(name)
    repository = open_clip.get_pretrained_cfg(name, "openai")["hf_hub"].strip("/")
    yield Asset("color_classifier", repository, ("open_clip_model.safetensors",))


def fetch_all(config: RunConfig, say: Say = print) -> int:
    """Says what a settled configuration needs and how large it is, fetches and verifies it; returns the bytes in all.

    Raises CheckpointError, before anything large is fetched where the disk is too small.
    """
    listed = []
    for asset in needed(config):
        files = list_files(asset)
        listed.append((asset, files))
        say(f"{asset.key}: {asset.repository}: {len(files)} file{'s' * (len(files) > 1)}, {readable(_size(files))}")
    total = sum(_size(files) for _, files in listed)
    left = sum(_size([file for file in files if not cached(asset, file)]) for asset, files in listed)
    say(f"in all {readable(total)}, {readable(left)} of it still to be fetched")
    _require_space(left)
    for asset, files in listed:
        fetch(asset, files, say)
    return total


def _size(files: list[HubFile]) -> int:
    return sum(file.size for file in files)


def _require_space(size: int) -> None:
    from huggingface_hub.constants import HF_HUB_CACHE

    place = Path(HF_HUB_CACHE)
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if size > free:
        raise CheckpointError(
            f"{HF_HUB_CACHE}: {readable(size)} are to be fetched and {readable(free)} are free; "
            "set HF_HOME to a larger disk"
        )


def readable(size: int) -> str:
    """Bytes as text, in powers of 1,000."""
    value, unit = float(size), "B"
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
