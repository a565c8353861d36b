"""A verifier's LoRA adapter: PEFT weights of the LLM, and the connector trained beside them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from vhs.checkpoints.boundary import loading
from vhs.checkpoints.bounds import read_config
from vhs.checkpoints.weights import check_safetensors, weight_files
from vhs.errors import CheckpointError
from vhs.verifiers.checkpoint import fill

KEY = "lora_weights"
_CONNECTOR_NAME = "mm_projector."


def apply_lora(llm: nn.Module, connector: nn.Module, folder: Path) -> nn.Module:
    """The LLM with the adapter of `folder` on it; `connector` is filled in place where the adapter brings one
    (`non_lora_trainables.bin`).

    Raises:
        CheckpointError: no adapter there, a damaged one, or one of another model.
    """
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open

    file = check_adapter(folder)
    with loading("PEFT adapter", f"{KEY}: {folder}"):
        adapted = PeftModel.from_pretrained(llm, str(folder), local_files_only=True, autocast_adapter_dtype=False)
        needed = set(get_peft_model_state_dict(adapted))
        with safe_open(file, "np") as opened:
            stored = set(opened.keys())
    for problem, names in (("lacks", needed - stored), ("has no place for", stored - needed)):
        if names:
            raise CheckpointError(
                f"{KEY}: {folder}: {problem} {len(names)} of {len(needed)} tensors ({min(names)}); it was trained on "
                "another model, or is not whole"
            )
    beside = folder / "non_lora_trainables.bin"
    if beside.is_file():
        fill(connector, _connector_tensors(beside), f"{KEY}: {beside}")
    return adapted


def check_adapter(folder: Path) -> Path:
    """The adapter's file of weights, whole and of a LoRA, as far as headers tell. Raises CheckpointError."""
    from safetensors import safe_open

    config = read_config(folder / "adapter_config.json", f"{KEY}: a PEFT adapter's folder is needed")
    if config.get("peft_type") != "LORA":
        raise CheckpointError(f"{KEY}: {folder}: peft_type is {config.get('peft_type')!r}; LORA is needed")
    if config.get("megatron_config"):  # PEFT would import the module that it names
        raise CheckpointError(f"{KEY}: {folder}: megatron_config is not supported; leave it out")
    [file] = weight_files(folder, "adapter_model")
    check_safetensors(file)
    with loading("PEFT adapter", f"{KEY}: {folder}"), safe_open(file, "np") as opened:
        if not any("lora_" in name for name in opened.keys()):  # noqa: SIM118 - no dict, it has keys() only
            raise CheckpointError(f"{KEY}: {file}: has no LoRA tensors; it would change nothing")
    return file


def _connector_tensors(file: Path) -> dict[str, torch.Tensor]:
    """The connector's tensors; their names are those of the wrapped model, `base_model.model.model.mm_projector.*`."""
    with loading("file of tensors", f"{KEY}: {file}"):
        tensors = torch.load(file, map_location="cpu", weights_only=True)
        if not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
            raise TypeError("not every value is a tensor")
    if other := sorted(name for name in tensors if _CONNECTOR_NAME not in name):
        raise CheckpointError(f"{KEY}: {file}: tensors outside the connector: {', '.join(other)}")
    return {name.split(_CONNECTOR_NAME, 1)[1]: tensor for name, tensor in tensors.items()}
