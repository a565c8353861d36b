"""The text before the picture, which is the same for every candidate: through the LLM once per micro-batch.

Nothing is kept between passes: keys and values go stale when weights are changed in place.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from vhs.verifiers.conversation import IMAGE_INDEX


def pays(llm: nn.Module) -> bool:
    """Where sharing saves time and changes nothing but the last digits: in float32 on a CPU.

    A picture behind cached text needs a mask, and on a GPU the causal kernel, which takes none, is left alone. In
    bfloat16 another order of work rounds elsewhere than the release did.
    """
    weight = llm.get_input_embeddings().weight
    plain = llm.config._attn_implementation == "sdpa" and set(llm.config.layer_types) == {"full_attention"}
    return plain and weight.device.type == "cpu" and weight.dtype == torch.float32


def next_token_logits(llm: nn.Module, tokens: torch.Tensor, ids: Sequence[int]) -> torch.Tensor:
    """`llava.next_token_logits` for one prompt's `ids` and the connector's output (N, T, D), but for rounding."""
    place = ids.index(IMAGE_INDEX)
    after = _embedded(llm, ids[place + 1 :], tokens).expand(len(tokens), -1, -1)
    rest = torch.cat([tokens, after], dim=1)
    past = llm.model(inputs_embeds=_embedded(llm, ids[:place], tokens), use_cache=True).past_key_values
    past.batch_repeat_interleave(len(tokens))
    length = rest.shape[1]
    mask = torch.ones(length, place + length, dtype=torch.bool, device=tokens.device).tril(place)
    inputs = {"inputs_embeds": rest, "attention_mask": {"full_attention": mask[None, None]}}
    return llm(**inputs, past_key_values=past, use_cache=True, logits_to_keep=1).logits[:, -1].float()


def _embedded(llm: nn.Module, ids: Sequence[int], tokens: torch.Tensor) -> torch.Tensor:
    """(1, len(ids), D) in the dtype of `tokens`."""
    return llm.get_input_embeddings()(torch.tensor([ids], device=tokens.device)).to(tokens.dtype)
