"""A LoRA adapter on the generator's transformer (`sana_lora_weights`), as diffusers' training scripts write it."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from vhs.checkpoints.boundary import loading, quiet
from vhs.checkpoints.weights import check_safetensors
from vhs.errors import CheckpointError

if TYPE_CHECKING:
    from diffusers import SanaSprintPipeline

log = logging.getLogger(__name__)

KEY = "sana_lora_weights"
USUAL_NAME = "pytorch_lora_weights.safetensors"
PATTERNS = ("*.safetensors", "adapter_config.json")
"""What is fetched of a Hub repository."""
HALVES = (("lora_A", "lora_B"), ("lora_down", "lora_up"), ("lora.down", "lora.up"))
MARKS = ("lora_A", "lora_B", "lora_down", "lora_up", "lora.down", "lora.up")


def lora_file(place: Path) -> Path:
    """The adapter's file, given it or its folder; raises CheckpointError where none can be read."""
    file = place if place.is_file() else _only_file(place)
    if file.suffix != ".safetensors":
        raise CheckpointError(f"{KEY}: {file}: is a {file.suffix} file; safetensors is expected")
    check_safetensors(file)
    with loading("LoRA", f"{KEY}: {file}"):
        _check_pairs(file)
    return file


def add_lora(pipeline: SanaSprintPipeline, file: Path) -> None:
    """Attaches the adapter to the pipeline's transformer, unmerged, with the scale that it was saved with.

    Raises CheckpointError unless every one of its tensors finds its layer.
    """
    with loading("LoRA of this transformer", f"{KEY}: {file}"), quiet():
        pipeline.load_lora_weights(str(file.parent), weight_name=file.name, use_safetensors=True, local_files_only=True)
    stored, used = _stored_tensors(file), _lora_tensors(pipeline.transformer.state_dict())
    if not used or used != stored:
        raise CheckpointError(
            f"{KEY}: {file}: {used} of its {stored} tensors fit this transformer; an adapter's names start with "
            "`transformer.` and belong to the model it was trained on"
        )
    pipeline.transformer.requires_grad_(False)


def _only_file(folder: Path) -> Path:
    if (folder / "adapter_config.json").is_file():
        raise CheckpointError(
            f"{KEY}: {folder}: an adapter saved by peft; save it with SanaSprintPipeline.save_lora_weights"
        )
    usual, files = folder / USUAL_NAME, sorted(folder.glob("*.safetensors"))
    if usual.is_file() or len(files) == 1:
        return usual if usual.is_file() else files[0]
    found = ", ".join(file.name for file in files) or "no safetensors file"
    raise CheckpointError(f"{KEY}: {folder}: has {found}; name the adapter's file, or call it {USUAL_NAME}")


def _check_pairs(file: Path) -> None:
    """Raises CheckpointError unless every matrix A has its B, and says so where only some of the blocks have them."""
    from safetensors import safe_open

    with safe_open(file, "np") as tensors:
        names, metadata = set(tensors.keys()), tensors.metadata() or {}
    settings = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    if any(value for key, value in settings.items() if key.endswith("megatron_config")):  # its module would be imported
        raise CheckpointError(f"{KEY}: {file}: megatron_config is not supported; leave it out")
    if not _lora_tensors(names):
        raise CheckpointError(f"{KEY}: {file}: has no LoRA tensors; it would change nothing")
    for first, second in HALVES:
        for name in names:
            other = name.replace(first, second) if first in name else name.replace(second, first)
            if other not in names:
                raise CheckpointError(f"{KEY}: {file}: {name} is there without {other}; download it again")
    layers = Counter(re.sub(r"\.\d+\.", ".*.", name) for name in names)
    if len(set(layers.values())) > 1:
        least = min(layers, key=layers.__getitem__)
        log.warning("%s: %s: adapts %s in %d blocks only", KEY, file, least, layers[least])


def _stored_tensors(file: Path) -> int:
    from safetensors import safe_open

    with safe_open(file, "pt") as tensors:
        return _lora_tensors(tensors.keys())


def _lora_tensors(names: Iterable[str]) -> int:
    return sum(any(mark in name for mark in MARKS) for name in names)
