"""A verifier's LoRA adapter: PEFT weights of the LLM, and the connector trained beside them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from vhs.errors import CheckpointError, first_line
from vhs.verifiers.checkpoint import fill

_CONNECTOR_NAME = "mm_projector."


def apply_lora(llm: nn.Module, connector: nn.Module, folder: Path) -> nn.Module:
    """The LLM with the adapter of `folder` on it; `connector` is filled in place where the adapter brings one
    (`non_lora_trainables.bin`).

    Raises:
        CheckpointError: no adapter there, a damaged one, or one of another model.
    """
    from peft import PeftModel

    try:
        adapted = PeftModel.from_pretrained(llm, str(folder), local_files_only=True, autocast_adapter_dtype=False)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise CheckpointError(f"lora_weights: {folder}: not a usable PEFT adapter ({first_line(error)})") from None
    beside = folder / "non_lora_trainables.bin"
    if beside.is_file():
        fill(connector, _connector_tensors(beside), f"lora_weights: {beside}")
    return adapted


def _connector_tensors(file: Path) -> dict[str, torch.Tensor]:
    """The connector's tensors; their names are those of the wrapped model, `base_model.model.model.mm_projector.*`."""
    try:
        tensors = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types on a damaged file
        raise CheckpointError(f"lora_weights: {file}: not a file of tensors ({first_line(error)})") from None
    if other := sorted(name for name in tensors if _CONNECTOR_NAME not in name):
        raise CheckpointError(f"lora_weights: {file}: tensors outside the connector: {', '.join(other)}")
    return {name.split(_CONNECTOR_NAME, 1)[1]: tensor for name, tensor in tensors.items()}
