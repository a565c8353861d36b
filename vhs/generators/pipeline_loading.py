"""Weights into a diffusers pipeline of any class: every file whole, every tensor in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vhs.checkpoints.weights import check_safetensors, weight_files
from vhs.errors import CheckpointError, first_line
from vhs.generators.loading import load_weights, quiet
from vhs.generators.text import set_softcapping

if TYPE_CHECKING:
    from vhs.generators.description import Description

STEMS = {"diffusers": "diffusion_pytorch_model", "transformers": "model"}
"""Library of a model -> the stem of its weight files."""

WEIGHTS = (
    "model_index.json",
    "*/*.json",
    "*/*.txt",
    "*/*.model",
    "*/*.jinja",
    *(f"*/{stem}{shard}.safetensors" for stem in STEMS.values() for shard in ("", "-0*")),
)
"""Patterns of the files that a run needs, for a download; copies in another precision (`*.fp16.safetensors`) stay there."""


def models_of(description: Description) -> dict[str, str]:
    """Components with weights -> their library. A safety checker is no part of a run."""
    return {
        name: library
        for name, (library, _) in description.components.items()
        if library in STEMS and (description.folder / name / "config.json").is_file() and name != "safety_checker"
    }


def check_weights(description: Description) -> None:
    """Raises CheckpointError, naming the file, where one is missing, truncated, corrupt or a pickle."""
    for name, library in models_of(description).items():
        for file in weight_files(description.folder / name, STEMS[library]):
            check_safetensors(file)


def load_pipeline(description: Description, dtype: str = "float32", text_softcapping: bool = False) -> Any:
    """The pipeline in the description's folder, in evaluation mode on the CPU, without gradients.

    With `dtype: float16` a Gemma-2 text encoder and its autoencoder are in bfloat16, as in `loading.load_pipeline`. Raises
    CheckpointError, naming the component, when a file is damaged or a tensor is missing, left over or of another shape.
    """
    import torch
    from transformers import Gemma2Model

    check_weights(description)
    classes = {name: description.component_class(name) for name in models_of(description)}
    overflows = dtype == "float16" and Gemma2Model in classes.values()
    parts: dict[str, Any] = {}
    with quiet():
        for name, library in models_of(description).items():
            wide = overflows and name != description.network_name
            key = "torch_dtype" if library == "diffusers" else "dtype"
            precision = torch.bfloat16 if wide else getattr(torch, dtype)
            parts[name] = load_weights(classes[name], description.folder / name, **{key: precision})
            if isinstance(parts[name], Gemma2Model):
                set_softcapping(parts[name], text_softcapping)
        pipeline = _assembled(description, parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _assembled(description: Description, parts: dict[str, Any]) -> Any:
    """Diffusers adds tokenizers, scheduler and what the index says of the pipeline itself."""
    if "safety_checker" in description.components:
        parts = {**parts, "safety_checker": None, "requires_safety_checker": False}
    try:
        return description.pipeline_class.from_pretrained(str(description.folder), local_files_only=True, **parts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise CheckpointError(
            f"{description.folder}: cannot be assembled as {description.name}: {first_line(error)}"
        ) from error
