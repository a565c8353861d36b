"""Weights into a `SanaSprintPipeline`: the only place that knows how its components are built."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vhs.checkpoints.boundary import loading, quiet
from vhs.checkpoints.bounds import read_config
from vhs.errors import CheckpointError
from vhs.generators.files import check_weight_files
from vhs.generators.text import set_softcapping

if TYPE_CHECKING:
    from diffusers import SanaSprintPipeline


def load_pipeline(folder: Path, dtype: str = "float32", text_softcapping: bool = False) -> SanaSprintPipeline:
    """The pipeline stored in `folder`, in evaluation mode on the CPU, without gradients.

    With `dtype: float16` text encoder and autoencoder are in bfloat16: Gemma-2's activations overflow float16, and
    SANA's authors run both so. Raises CheckpointError, naming the component, when a file is damaged or a tensor is
    missing, left over or of another shape.
    """
    import torch
    from diffusers import AutoencoderDC, SanaSprintPipeline, SanaTransformer2DModel, SCMScheduler
    from transformers import AutoTokenizer, Gemma2Model

    check_weight_files(folder)
    precision = getattr(torch, dtype)
    wide = torch.bfloat16 if dtype == "float16" else precision
    with quiet():
        pipeline = SanaSprintPipeline(
            tokenizer=_component(AutoTokenizer, folder / "tokenizer"),
            text_encoder=load_weights(Gemma2Model, folder / "text_encoder", dtype=wide),
            vae=load_weights(AutoencoderDC, folder / "vae", torch_dtype=wide),
            transformer=load_weights(SanaTransformer2DModel, folder / "transformer", torch_dtype=precision),
            scheduler=_component(SCMScheduler, folder / "scheduler"),
        )
    set_softcapping(pipeline.text_encoder, text_softcapping)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def random_pipeline(
    folder: Path, device: str = "meta", dtype: str = "bfloat16", tokenizer: Any = None
) -> SanaSprintPipeline:
    """The architecture in `folder` with random weights, or on the meta device with none: for shapes, FLOPs, timings."""
    import torch
    from diffusers import AutoencoderDC, SanaSprintPipeline, SanaTransformer2DModel, SCMScheduler
    from transformers import Gemma2Config, Gemma2Model

    def build(model_class: Any, name: str) -> Any:
        return model_class.from_config(read_config(folder / name / "config.json"))

    with torch.device(device), _default_dtype(getattr(torch, dtype)):
        parts = {
            "text_encoder": Gemma2Model(Gemma2Config(**read_config(folder / "text_encoder" / "config.json"))),
            "vae": build(AutoencoderDC, "vae"),
            "transformer": build(SanaTransformer2DModel, "transformer"),
        }
    for model in parts.values():
        model.eval().requires_grad_(False)
    set_softcapping(parts["text_encoder"], enabled=False)
    scheduler = SCMScheduler.from_config(read_config(folder / "scheduler" / "scheduler_config.json"))
    pipeline = SanaSprintPipeline(tokenizer=tokenizer, scheduler=scheduler, **parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load_weights(model_class: Any, folder: Path, **options: Any) -> Any:
    """A model of diffusers or transformers; raises CheckpointError unless every tensor of the file has its place."""
    model, report = _component(model_class, folder, use_safetensors=True, output_loading_info=True, **options)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        names = sorted(str(name) for name in report.get(kind) or ())
        if names:
            fault = f"{kind.replace('_', ' ')}: {', '.join(names)}"
            raise CheckpointError(f"{folder}: {fault}; the weights are not of this config.json")
    return model.eval().requires_grad_(False)


def _component(component_class: Any, folder: Path, **options: Any) -> Any:
    if component_class.__module__.startswith("transformers."):  # diffusers' models have no such question
        options["trust_remote_code"] = False
    with loading(component_class.__name__, folder):
        component = component_class.from_pretrained(str(folder), local_files_only=True, **options)
        if "Tokenizer" in component_class.__name__:
            component("yes")  # a file can be read, and no text be taken
        return component


@contextmanager
def _default_dtype(dtype: Any) -> Iterator[None]:
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
