"""mmdet's instance post-processing of Mask2Former's logits: pure tensor functions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

TOP_K = 100
CHUNK_PIXELS = 2**25
"""Mask pixels that are upsampled at once: 128 MiB of float32."""


@dataclass(frozen=True)
class Instances:
    """K instances in no particular order: `query`, `label` (K,) long, `score` (K,) float32, `box` (K, 4) float32 as
    (x0, y0, x1, y1) with x1, y1 one past the last pixel, `mask` (K, H, W) bool on the picture's own grid."""

    query: torch.Tensor
    label: torch.Tensor
    score: torch.Tensor
    box: torch.Tensor
    mask: torch.Tensor


def find_instances(
    class_logits: torch.Tensor,
    mask_logits: torch.Tensor,
    padded: tuple[int, int],
    resized: tuple[int, int],
    original: tuple[int, int],
    min_score: float | None = None,
) -> Instances:
    """The most probable TOP_K (query, class) pairs of one picture, each with the query's mask.

    `class_logits` (Q, C + 1), last column "no object"; `mask_logits` (Q, h, w). score = p(class) times the mean of
    sigmoid(logit) over the mask's pixels. As that mean is at most 1, pairs with p <= `min_score` are dropped before
    their masks are drawn. No overlap suppression: a query may appear under several classes.
    """
    p, query, label = top_pairs(class_logits)
    if min_score is not None:
        keep = p > min_score
        p, query, label = p[keep], query[keep], label[keep]
    if not len(p):
        return Instances(query, label, p, p.new_zeros(0, 4), p.new_zeros((0, *original), dtype=torch.bool))
    # A query stands under several classes; its mask is drawn once.
    queries, row = query.unique(return_inverse=True)
    chunk = max(1, CHUNK_PIXELS // max(padded[0] * padded[1], original[0] * original[1]))
    masks, quality = [], []
    for part in queries.split(chunk):
        logits = upsample(mask_logits[part], padded, resized, original)
        inside = logits > 0
        # mmdet's epsilon, kept: it is what makes an empty mask's score 0 and not NaN.
        total = inside.flatten(1).sum(1) + 1e-6
        quality.append((logits.sigmoid() * inside).flatten(1).sum(1) / total)
        masks.append(inside)
    mask = torch.cat(masks)
    return Instances(query, label, p * torch.cat(quality)[row], mask_boxes(mask)[row], mask[row])


def top_pairs(class_logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(p, query, label) of the TOP_K most probable pairs, or of all where there are fewer."""
    probabilities = class_logits.softmax(-1)[:, :-1]
    classes = probabilities.shape[1]
    flat = probabilities.flatten()
    p, index = flat.topk(min(TOP_K, flat.numel()), sorted=False)
    return p, index // classes, index % classes


def upsample(
    logits: torch.Tensor, padded: tuple[int, int], resized: tuple[int, int], original: tuple[int, int]
) -> torch.Tensor:
    """(K, h, w) logits to the padded input's grid, cut to the resized picture, then to the original's grid."""
    # Two interpolations, as mmdet has them: through the padded input's grid. One step to `original` gives other masks.
    logits = F.interpolate(logits[None], size=padded, mode="bilinear", align_corners=False)
    logits = logits[..., : resized[0], : resized[1]]
    if resized != original:
        logits = F.interpolate(logits, size=original, mode="bilinear", align_corners=False)
    return logits[0]


def mask_boxes(mask: torch.Tensor) -> torch.Tensor:
    """(K, H, W) bool -> (K, 4) float32 (x0, y0, xlast + 1, ylast + 1); zeros for an empty mask."""

    def ends(hit: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        first = hit.int().argmax(1)
        return first, hit.shape[1] - hit.flip(1).int().argmax(1)

    columns, rows = mask.any(1), mask.any(2)
    (x0, x1), (y0, y1) = ends(columns), ends(rows)
    return torch.stack([x0, y0, x1, y1], 1).float() * columns.any(1, keepdim=True)
