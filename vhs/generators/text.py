"""The text side of SANA-Sprint: Gemma-2 behind diffusers' own `encode_prompt`."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any

from vhs.compiled import Graphed, compile_layers
from vhs.generators.settings import GeneratorSettings
from vhs.records import TextEmbedding

if TYPE_CHECKING:
    import torch
    from diffusers import SanaSprintPipeline
    from torch import nn

STEP = 32
"""Tokens by which the compiled text encoder's input grows."""
log = logging.getLogger(__name__)


def pipeline_default(name: str) -> Any:
    """The default that `SanaSprintPipeline.__call__` has for its argument `name`."""
    from diffusers import SanaSprintPipeline

    return inspect.signature(SanaSprintPipeline.__call__).parameters[name].default


def instruction(value: Any) -> list[str]:
    """The lines put before a prompt, for a value of the key `complex_human_instruction`; [] for none."""
    if value is None or value is True:
        return list(pipeline_default("complex_human_instruction"))
    if not value:
        return []
    return [value] if isinstance(value, str) else list(value)


def set_softcapping(text_encoder: nn.Module, enabled: bool) -> None:
    """Switches Gemma-2's attention soft-capping off, or leaves it as its config says.

    The published release ran on transformers 4, whose SDPA attention dropped it silently; transformers 5 applies it,
    which moves the embeddings. Off reproduces the release.
    """
    if enabled:
        return
    text_encoder.config.attn_logit_softcapping = None
    for layer in text_encoder.layers:
        layer.self_attn.attn_logit_softcapping = None


def compile_encoder(text_encoder: nn.Module) -> None:
    """Has the text encoder run as a graph of compiled layers; its weights must not move afterwards.

    Padding behind the text, which no token before it sees and the transformer masks, is left out but for what fills a
    multiple of STEP, so that few lengths are recorded; it is zero in the result.
    """
    compile_layers(text_encoder.layers)
    forward = text_encoder.forward
    run = Graphed(lambda ids, mask: forward(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state)

    def encode(ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor]:
        from torch.nn import functional

        said = -(-int(attention_mask.sum()) // STEP) * STEP
        hidden = run(ids[:, :said], attention_mask[:, :said])
        return (functional.pad(hidden, (0, 0, 0, ids.shape[1] - hidden.shape[1])),)

    text_encoder.forward = encode


def encode(pipeline: SanaSprintPipeline, prompt: str, settings: GeneratorSettings, device: str) -> TextEmbedding:
    """One prompt's embedding (1, T, D) and mask (1, T), T being `max_sequence_length`; the prompt is lower-cased."""
    limit = settings.max_sequence_length or pipeline_default("max_sequence_length")
    tokens = len(pipeline.tokenizer(prompt.lower().strip()).input_ids)
    if tokens > limit:
        log.warning("prompt of %d tokens cut to max_sequence_length: %d: %s", tokens, limit, prompt)
    embeds, mask = pipeline.encode_prompt(
        prompt,
        num_images_per_prompt=1,
        device=device,
        max_sequence_length=limit,
        complex_human_instruction=instruction(settings.complex_human_instruction),
    )
    return TextEmbedding(embeds, mask)
