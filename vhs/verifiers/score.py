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


def answers(
    logits: torch.Tensor, yes: int, no: int, temperature: float | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """From logits (N, vocabulary), on their device: p(yes) and p(no) of the float32 softmax over the whole vocabulary,
    (N, 2), and the most probable token, (N,). Nothing waits for the device.

    With a `temperature` p(yes) is sigmoid((z_yes - z_no) / temperature) and p(no) the rest: calibrated where the
    temperature was fitted (Guo et al., 2017, for two answers).
    """
    if temperature is None:
        probabilities = logits.float().softmax(dim=1)
        p_yes, p_no = probabilities[:, yes], probabilities[:, no]
    else:
        p_yes = torch.sigmoid(margins(logits, yes, no) / temperature)
        p_no = 1 - p_yes
    return torch.stack([p_yes, p_no], dim=1), logits.argmax(dim=1)


def as_score(probabilities: torch.Tensor, tokens: torch.Tensor, affirms: Callable[[int], bool]) -> Score:
    """Scores, on the CPU, from what `answers` gives: `correct` where the most probable token says yes; the score is
    p(yes) there and -p(no) elsewhere (paper, section 3; release)."""
    p_yes, p_no = (column.contiguous() for column in probabilities.cpu().unbind(dim=1))
    correct = torch.tensor([affirms(token) for token in tokens.tolist()], dtype=torch.bool)
    return Score(p_yes=p_yes, p_no=p_no, correct=correct, score=torch.where(correct, p_yes, -p_no))


def score_logits(
    logits: torch.Tensor, yes: int, no: int, affirms: Callable[[int], bool], temperature: float | None = None
) -> Score:
    """Scores from logits (N, vocabulary)."""
    return as_score(*answers(logits, yes, no, temperature), affirms)


def margins(logits: torch.Tensor, yes: int, no: int) -> torch.Tensor:
    """z_yes - z_no of logits (N, vocabulary), (N,) float32: the log-odds of the answer."""
    return logits[:, yes].float() - logits[:, no].float()
