"""Weights into a diffusers pipeline of any class: every file whole, every tensor in its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vhs.checkpoints.boundary import loading, quiet
from vhs.checkpoints.bounds import check_tokenizer_sizes, read_config
from vhs.checkpoints.weights import check_safetensors, weight_files
from vhs.generators.description import NETWORKS, Description
from vhs.generators.loading import load_weights
from vhs.generators.text import set_softcapping

STEMS = {"diffusers": "diffusion_pytorch_model", "transformers": "model"}
"""Library of a model -> the stem of its weight files."""

_TEXT_FILES = ("model_index.json", "*/*.json", "*/*.txt", "*/*.model", "*/*.jinja")
_WHOLE = tuple(f"{{}}/{stem}{shard}.safetensors" for stem in STEMS.values() for shard in ("", "-0*"))
WEIGHTS = (*_TEXT_FILES, *(pattern.format("*") for pattern in _WHOLE))
"""Patterns of the files that a run needs, for a download; copies in another precision (`*.fp16.safetensors`) stay
there."""

REST = (*_TEXT_FILES, *(pattern.format(name) for name in ("text_encoder*", "vae") for pattern in _WHOLE))
"""The same where the network comes from elsewhere."""

PICKLE = "diffusion_pytorch_model.bin"
NETWORK_FILES = (
    "model_index.json",
    "scheduler/*.json",
    *(f"{name}/*.json" for name in NETWORKS),
    *(pattern.format(name) for name in NETWORKS for pattern in _WHOLE),
    *(f"{name}/{PICKLE}" for name in NETWORKS),
)
"""Patterns of a network that is used in another pipeline; an old one may have its tensors in a `.bin` file alone."""


def models_of(description: Description) -> dict[str, str]:
    """Components with weights -> their library. A safety checker is no part of a run."""
    return {
        name: library
        for name, (library, _) in description.components.items()
        if library in STEMS and (description.place(name) / "config.json").is_file() and name != "safety_checker"
    }


def check_weights(description: Description) -> None:
    """Raises CheckpointError, naming the file, where one is missing, truncated, corrupt or a pickle."""
    for name, library in models_of(description).items():
        read_config(description.place(name) / "config.json")
        if not _only_pickle(description, name):
            for file in weight_files(description.place(name), STEMS[library]):
                check_safetensors(file)


def load_pipeline(description: Description, dtype: str = "float32", text_softcapping: bool = False) -> Any:
    """The pipeline in the description's folder, in evaluation mode on the CPU, without gradients.

    With `dtype: float16` a Gemma-2 text encoder and its autoencoder are in bfloat16, as in `loading.load_pipeline`.
    Raises CheckpointError, naming the component, when a file is damaged or a tensor is missing, left over or of
    another shape.
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
            load = _load_pickle if _only_pickle(description, name) else load_weights
            parts[name] = load(classes[name], description.place(name), **{key: precision})
            if isinstance(parts[name], Gemma2Model):
                set_softcapping(parts[name], text_softcapping)
        pipeline = _assembled(description, {**parts, **_text_parts(description)})
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _only_pickle(description: Description, name: str) -> bool:
    """The network was published as a `.bin` alone; its tensors are read without running what a pickle may hold."""
    place = description.place(name)
    return name == description.network_name and (place / PICKLE).is_file() and not any(place.glob("*.safetensors*"))


def _load_pickle(model_class: Any, folder: Path, torch_dtype: Any) -> Any:
    import torch

    with loading(f"file of the weights of {model_class.__name__}", folder / PICKLE):
        model = model_class.from_config(read_config(folder / "config.json"))
        model.load_state_dict(torch.load(folder / PICKLE, map_location="cpu", weights_only=True))
    return model.to(torch_dtype).eval().requires_grad_(False)


def _text_parts(description: Description) -> dict[str, Any]:
    """Tokenizers and processors of transformers, none of which may run code of its folder."""
    weights = models_of(description)
    parts = {}
    for name, (library, class_name) in description.components.items():
        place = description.place(name)
        if library == "transformers" and name not in weights and name != "safety_checker" and place.is_dir():
            check_tokenizer_sizes(place)
            with loading(class_name, place):
                kind = description.component_class(name)
                parts[name] = kind.from_pretrained(str(place), local_files_only=True, trust_remote_code=False)
                if "Tokenizer" in class_name:
                    parts[name]("yes")  # a file can be read, and no text be taken
    return parts


def _assembled(description: Description, parts: dict[str, Any]) -> Any:
    """Diffusers adds what the index says of the pipeline itself."""
    parts["scheduler"] = description.skeleton.scheduler
    if "safety_checker" in description.components:
        parts = {**parts, "safety_checker": None, "requires_safety_checker": False}
    with loading(description.name, description.folder):
        return description.pipeline_class.from_pretrained(
            str(description.folder), local_files_only=True, trust_remote_code=False, **parts
        )
