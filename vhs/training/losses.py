"""The three losses of the paper, as pure functions: per sample, weight of a sample, reduction.

With p the probability of the right answer's token under the softmax over the whole vocabulary and w its class weight:

    cross_entropy             -log p
    weighted_cross_entropy    -w log p                  w: 0.37 for yes, 0.63 for no in the paper
    focal                     -w (1 - p)^gamma log p    w: alpha for yes, 1 - alpha for no

A batch is reduced by "mean" (sum / samples) or "weighted_mean" (sum / sum of weights, as torch.nn.CrossEntropyLoss
does). A batch may be spread over processes and accumulation steps, so the divisor is computed apart from the sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch.nn import functional as F

from vhs.errors import ConfigError

if TYPE_CHECKING:
    from vhs.training.config import TrainConfig

Kind = Literal["cross_entropy", "weighted_cross_entropy", "focal"]
Reduction = Literal["mean", "weighted_mean"]


@dataclass(frozen=True)
class Loss:
    """One of the paper's losses with its class weights; `gamma` is read by focal only."""

    kind: Kind = "cross_entropy"
    weight_yes: float = 1.0
    weight_no: float = 1.0
    gamma: float = 2.0
    reduction: Reduction = "mean"

    def weights(self, labels: torch.Tensor) -> torch.Tensor:
        """Class weight of each sample, float32; `labels` (B,) bool, true for yes."""
        yes, no = (1, 1) if self.kind == "cross_entropy" else (self.weight_yes, self.weight_no)
        return torch.where(labels, yes, no).to(torch.float32)

    def divisor(self, labels: torch.Tensor) -> float:
        """What the sum over a whole batch is divided by."""
        return float(self.weights(labels).sum()) if self.reduction == "weighted_mean" else float(labels.numel())

    def values(self, logits: torch.Tensor, targets: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Weighted losses (B,) before reduction, float32; `logits` (B, V), `targets` (B,) token ids of the answers."""
        entropy = token_cross_entropy(logits, targets)
        if self.kind == "focal":
            entropy = focal_factor(entropy, self.gamma) * entropy
        return self.weights(labels) * entropy

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss of one whole batch, a scalar."""
        return self.values(logits, targets, labels).sum() / self.divisor(labels)


def token_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """-log softmax(logits)[target] in float32, unreduced: (B, V) and (B,) give (B,)."""
    return F.cross_entropy(logits.float(), targets, reduction="none")


def focal_factor(entropy: torch.Tensor, gamma: float) -> torch.Tensor:
    """(1 - p)^gamma for -log p; 1 - p is -expm1(-entropy), exact and with a finite gradient near p = 1."""
    # the gradient of x ** gamma at x = 0 is infinite for gamma < 1 and would turn into NaN: keep x above 0
    return (-torch.expm1(-entropy)).clamp_min(torch.finfo(entropy.dtype).tiny) ** gamma


def balanced_weights(labels: torch.Tensor) -> tuple[float, float]:
    """(yes, no) weights that give both answers the same total: each class's is the other one's share.

    Raises ConfigError when only one answer occurs.
    """
    yes, total = int(labels.sum()), labels.numel()
    if yes in (0, total):
        raise ConfigError(
            f"labels: {'yes' if yes else 'no'} for all {total} samples; a verifier can only be trained on both answers"
        )
    return (total - yes) / total, yes / total


def ranking(margins: torch.Tensor, labels: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """The Bradley-Terry loss of right candidates against wrong ones of the same group, (M,) float32: each right one has
    the sum over the wrong ones, -log sigmoid(margin_right - margin_wrong); wrong ones have 0.

    `margins` (M,) are the log-odds of yes, `labels` (M,) bool, `groups` (M,) ints.
    """
    pairs = labels[:, None] & ~labels[None, :] & (groups[:, None] == groups[None, :])
    return (F.softplus(margins[None, :] - margins[:, None]) * pairs).sum(dim=1)


def ranked_pairs(labels: torch.Tensor, groups: torch.Tensor) -> int:
    """How many pairs `ranking` sums over."""
    return int((labels[:, None] & ~labels[None, :] & (groups[:, None] == groups[None, :])).sum())


def loss_of(config: TrainConfig, labels: torch.Tensor) -> Loss:
    """The configured loss; `labels` (n,) are the training split's. Captions are learned by plain cross-entropy.

    Raises ConfigError when weights are to come from labels of one kind.
    """
    if config.stage == "align" or config.loss == "cross_entropy":
        return Loss("cross_entropy")
    if config.loss == "focal":
        return Loss("focal", config.alpha, 1 - config.alpha, config.gamma, config.reduction)
    yes, no = balanced_weights(labels) if config.weights == "data" else config.weights
    return Loss("weighted_cross_entropy", yes, no, reduction=config.reduction)
