"""Weights into a `SanaSprintPipeline`: the only place that knows how its components are built."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vhs.errors import CheckpointError
from vhs.generators.architecture import read_json
from vhs.generators.files import check_weight_files
from vhs.generators.text import set_softcapping

if TYPE_CHECKING:
    from diffusers import SanaSprintPipeline


def load_pipeline(folder: Path, dtype: str = "float32", text_softcapping: bool = False) -> SanaSprintPipeline:
    """The pipeline stored in `folder`, in evaluation mode on the CPU, without gradients.

    Raises CheckpointError, naming the component, when a file is damaged or a tensor is missing, left over or of another
    shape.
    """
    import torch
    from diffusers import AutoencoderDC, SanaSprintPipeline, SanaTransformer2DModel, SCMScheduler
    from transformers import AutoTokenizer, Gemma2Model

    check_weight_files(folder)
    precision = getattr(torch, dtype)
    with _quiet_transformers():
        text_encoder = _weights(Gemma2Model, folder / "text_encoder", dtype=precision)
    set_softcapping(text_encoder, text_softcapping)
    pipeline = SanaSprintPipeline(
        tokenizer=_component(AutoTokenizer, folder / "tokenizer"),
        text_encoder=text_encoder,
        vae=_weights(AutoencoderDC, folder / "vae", torch_dtype=precision),
        transformer=_weights(SanaTransformer2DModel, folder / "transformer", torch_dtype=precision),
        scheduler=_component(SCMScheduler, folder / "scheduler"),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def random_pipeline(
    folder: Path, device: str = "meta", dtype: str = "bfloat16", tokenizer: Any = None
) -> SanaSprintPipeline:
    """The architecture in `folder` with random weights, or on the meta device with none: for shapes, FLOPs and timings."""
    import torch
    from diffusers import AutoencoderDC, SanaSprintPipeline, SanaTransformer2DModel, SCMScheduler
    from transformers import Gemma2Config, Gemma2Model

    def build(model_class: Any, name: str) -> Any:
        return model_class.from_config(read_json(folder / name / "config.json"))

    with torch.device(device), _default_dtype(getattr(torch, dtype)):
        parts = {
            "text_encoder": Gemma2Model(Gemma2Config(**read_json(folder / "text_encoder" / "config.json"))),
            "vae": build(AutoencoderDC, "vae"),
            "transformer": build(SanaTransformer2DModel, "transformer"),
        }
    for model in parts.values():
        model.eval().requires_grad_(False)
    set_softcapping(parts["text_encoder"], enabled=False)
    scheduler = SCMScheduler.from_config(read_json(folder / "scheduler" / "scheduler_config.json"))
    pipeline = SanaSprintPipeline(tokenizer=tokenizer, scheduler=scheduler, **parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _weights(model_class: Any, folder: Path, **options: Any) -> Any:
    model, report = _component(model_class, folder, use_safetensors=True, output_loading_info=True, **options)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        names = sorted(str(name) for name in report.get(kind) or ())
        if names:
            listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            raise CheckpointError(f"{folder}: {kind.replace('_', ' ')}: {listed}; the weights are not of this config.json")
    return model.eval().requires_grad_(False)


def _component(component_class: Any, folder: Path, **options: Any) -> Any:
    from safetensors import SafetensorError

    try:
        return component_class.from_pretrained(str(folder), local_files_only=True, **options)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        if "out of memory" in str(error).lower():
            raise
        reason = next(line for line in [*str(error).splitlines(), type(error).__name__] if line.strip())
        raise CheckpointError(f"{folder}: cannot be loaded as {component_class.__name__}: {reason}") from error


@contextmanager
def _default_dtype(dtype: Any) -> Iterator[None]:
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """A run has its own progress bar."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
