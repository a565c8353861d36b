"""A LoRA adapter on the generator's transformer (`sana_lora_weights`), as diffusers' training scripts write it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from vhs.checkpoints.weights import check_safetensors
from vhs.errors import CheckpointError, first_line
from vhs.generators.loading import quiet

if TYPE_CHECKING:
    from diffusers import SanaSprintPipeline

KEY = "sana_lora_weights"
USUAL_NAME = "pytorch_lora_weights.safetensors"
PATTERNS = ("*.safetensors", "adapter_config.json")
"""What is fetched of a Hub repository."""
MARKS = ("lora_A", "lora_B", "lora_down", "lora_up", "lora.down", "lora.up")


def lora_file(place: Path) -> Path:
    """The adapter's file, given it or its folder; raises CheckpointError where none can be read."""
    file = place if place.is_file() else _only_file(place)
    if file.suffix != ".safetensors":
        raise CheckpointError(f"{KEY}: {file}: is a {file.suffix} file; safetensors is expected")
    check_safetensors(file)
    return file


def add_lora(pipeline: SanaSprintPipeline, file: Path) -> None:
    """Attaches the adapter to the pipeline's transformer, unmerged, with the scale that it was saved with.

    Raises CheckpointError unless every one of its tensors finds its layer.
    """
    try:
        with quiet():
            pipeline.load_lora_weights(
                str(file.parent), weight_name=file.name, use_safetensors=True, local_files_only=True
            )
    except (ValueError, RuntimeError, KeyError, IndexError) as error:
        raise CheckpointError(f"{KEY}: {file}: does not fit this transformer: {first_line(error)}") from error
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


def _stored_tensors(file: Path) -> int:
    from safetensors import safe_open

    with safe_open(file, "pt") as tensors:
        return _lora_tensors(tensors.keys())


def _lora_tensors(names: Iterable[str]) -> int:
    return sum(any(mark in name for mark in MARKS) for name in names)
