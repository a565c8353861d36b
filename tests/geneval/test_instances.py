"""Instances from logits worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from vhs.geneval.instances import find_instances, mask_boxes, top_pairs

SQUARE = (8, 8)


def logits_of(box, inside=2.0, outside=-3.0):
    mask = torch.full((1, 8, 8), outside)
    x0, y0, x1, y1 = box
    mask[0, y0:y1, x0:x1] = inside
    return mask


def test_score_is_probability_times_mean_confidence_inside_the_mask():
    classes = torch.tensor([[3.0, 1.0, 0.0]])  # two classes and "no object"
    masks = logits_of((2, 1, 6, 4))
    masks[0, 2, 3] = 0.5
    found = find_instances(classes, masks, SQUARE, SQUARE, SQUARE)
    p = classes.softmax(-1)[0]
    confidence, lower = (1 / (1 + math.exp(-logit)) for logit in (2.0, 0.5))
    quality = (11 * confidence + lower) / (12 + 1e-6)
    order = found.label.argsort()
    assert found.score[order].tolist() == pytest.approx([float(p[0]) * quality, float(p[1]) * quality], rel=1e-5)
    assert found.box.tolist() == [[2, 1, 6, 4]] * 2
    assert found.mask.sum((1, 2)).tolist() == [12, 12]


def test_an_empty_mask_has_no_score_and_no_box():
    found = find_instances(torch.tensor([[3.0, 0.0]]), logits_of((0, 0, 0, 0)), SQUARE, SQUARE, SQUARE)
    assert found.score.tolist() == [0] and found.box.tolist() == [[0, 0, 0, 0]]


def test_the_mask_is_cut_to_the_picture_before_it_is_resized_to_it():
    """The padded right half is dropped: an object that fills the left half fills the picture."""
    masks = logits_of((0, 0, 4, 8))
    found = find_instances(torch.tensor([[3.0, 0.0]]), masks, (8, 8), (8, 4), (16, 8))
    assert found.box.tolist() == [[0, 0, 8, 16]]


def test_pairs_below_the_lowest_score_are_dropped_and_nothing_else_changes():
    torch.manual_seed(0)
    classes, masks = torch.randn(6, 4) * 4, torch.randn(6, 8, 8)
    everything = find_instances(classes, masks, SQUARE, SQUARE, SQUARE)
    some = find_instances(classes, masks, SQUARE, SQUARE, SQUARE, min_score=0.3)
    rows = {
        (int(q), int(c)): float(s) for q, c, s in zip(everything.query, everything.label, everything.score, strict=True)
    }
    kept = {(int(q), int(c)): float(s) for q, c, s in zip(some.query, some.label, some.score, strict=True)}
    assert 0 < len(kept) < len(rows)
    assert all(rows[key] == pytest.approx(score, rel=1e-6) for key, score in kept.items())
    assert all(score <= 0.3 for key, score in rows.items() if key not in kept)
    assert len(find_instances(classes, masks, SQUARE, SQUARE, SQUARE, min_score=1.0).score) == 0


def test_at_most_a_hundred_pairs_and_all_where_there_are_fewer():
    torch.manual_seed(0)
    p, query, label = top_pairs(torch.randn(100, 81))
    assert len(p) == 100
    probabilities = torch.randn(8, 9).softmax(-1)
    p, query, label = top_pairs(probabilities.log())
    assert len(p) == 64
    assert torch.allclose(p, probabilities[query, label], atol=1e-6)


def test_boxes_end_one_past_the_last_pixel():
    mask = torch.zeros(2, 5, 7, dtype=torch.bool)
    mask[0, 1, 2] = mask[0, 3, 6] = True
    assert mask_boxes(mask).tolist() == [[2, 1, 7, 4], [0, 0, 0, 0]]
