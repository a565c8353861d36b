"""From the LLM's logits at the answer position to a score. Pure functions on tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from vhs.records import Score


def answer_ids(tokenizer: Any) -> tuple[int, int]:
    """Token ids of the answers "yes" and "no": the first token of each word."""
    yes, no = (tokenizer.encode(word, add_special_tokens=False)[0] for word in ("yes", "no"))
    return yes, no


def says_yes(tokenizer: Any) -> Callable[[int], bool]:
    """A predicate on token ids: the token's text contains "yes", in any case."""
    return lambda token: "yes" in tokenizer.decode([token], skip_special_tokens=True).lower()


def score_logits(logits: torch.Tensor, yes: int, no: int, affirms: Callable[[int], bool]) -> Score:
    """Scores from logits (N, vocabulary): softmax in float32 over the whole vocabulary; `correct` where the most
    probable token says yes; the score is p(yes) there and -p(no) elsewhere (paper, section 3; release)."""
    probabilities = logits.float().softmax(dim=-1).cpu()
    p_yes, p_no = probabilities[:, yes].clone(), probabilities[:, no].clone()
    correct = torch.tensor([affirms(token) for token in logits.argmax(dim=-1).tolist()], dtype=torch.bool)
    return Score(p_yes=p_yes, p_no=p_no, correct=correct, score=torch.where(correct, p_yes, -p_no))
