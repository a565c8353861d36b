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


def score_logits(
    logits: torch.Tensor, yes: int, no: int, affirms: Callable[[int], bool], temperature: float | None = None
) -> Score:
    """Scores from logits (N, vocabulary): softmax in float32 over the whole vocabulary; `correct` where the most
    probable token says yes; the score is p(yes) there and -p(no) elsewhere (paper, section 3; release).

    With a `temperature` p(yes) is sigmoid((z_yes - z_no) / temperature) and p(no) the rest: calibrated where the
    temperature was fitted (Guo et al., 2017, for two answers).
    """
    if temperature is None:
        probabilities = logits.float().softmax(dim=-1).cpu()
        p_yes, p_no = probabilities[:, yes].clone(), probabilities[:, no].clone()
    else:
        p_yes = torch.sigmoid(margins(logits, yes, no) / temperature).cpu()
        p_no = 1 - p_yes
    correct = torch.tensor([affirms(token) for token in logits.argmax(dim=-1).tolist()], dtype=torch.bool)
    return Score(p_yes=p_yes, p_no=p_no, correct=correct, score=torch.where(correct, p_yes, -p_no))


def margins(logits: torch.Tensor, yes: int, no: int) -> torch.Tensor:
    """z_yes - z_no of logits (N, vocabulary), (N,) float32: the log-odds of the answer."""
    return logits[:, yes].float() - logits[:, no].float()
