"""The losses against values worked out by hand and against torch's own."""

import math

import pytest
import torch
from torch.nn.functional import logsigmoid

from vhs.errors import ConfigError
from vhs.training.losses import Loss, balanced_weights, focal_factor, loss_of, ranked_pairs, ranking

YES, NO = 2, 0


def batch(seed=0, size=16, vocabulary=7):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(size, vocabulary, generator=generator, dtype=torch.float64).float().requires_grad_()
    labels = torch.rand(size, generator=generator) < 0.4
    return logits, torch.where(labels, YES, NO), labels


def test_values_by_hand():
    """Two samples over three tokens with probabilities 1/2, 1/4, 1/4: yes (p 1/4) and no (p 1/2)."""
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]]))
    targets, labels = torch.tensor([YES, NO]), torch.tensor([True, False])
    plain = Loss("cross_entropy").values(logits, targets, labels)
    assert plain.tolist() == pytest.approx([math.log(4), math.log(2)])
    weighted = Loss("weighted_cross_entropy", 0.37, 0.63).values(logits, targets, labels)
    assert weighted.tolist() == pytest.approx([0.37 * math.log(4), 0.63 * math.log(2)])
    focal = Loss("focal", 0.25, 0.75, gamma=2.0).values(logits, targets, labels)
    assert focal.tolist() == pytest.approx([0.25 * (3 / 4) ** 2 * math.log(4), 0.75 * (1 / 2) ** 2 * math.log(2)])
    both = Loss("weighted_cross_entropy", 0.37, 0.63, reduction="weighted_mean")(logits, targets, labels)
    assert both.item() == pytest.approx(0.37 * math.log(4) + 0.63 * math.log(2))  # the weights sum to 1


def test_weights_and_divisor_by_hand():
    labels = torch.tensor([True, False, False])
    for kind, weights in (("cross_entropy", [1, 1, 1]), ("weighted_cross_entropy", [0.25, 0.5, 0.5])):
        loss = Loss(kind, 0.25, 0.5, reduction="weighted_mean")
        assert loss.weights(labels).tolist() == weights and loss.weights(labels).dtype == torch.float32
        assert loss.divisor(labels) == sum(weights) and Loss(kind, 0.25, 0.5).divisor(labels) == 3
        assert loss.weights(labels.to("meta")).device.type == "meta"
    assert Loss("weighted_cross_entropy", 2, 1).weights(labels).dtype == torch.float32, "also of whole numbers"


def test_weighted_loss_is_torchs():
    logits, targets, labels = batch()
    weight = torch.ones(7)
    weight[YES], weight[NO] = 0.37, 0.63
    reference = torch.nn.CrossEntropyLoss(weight=weight)(logits, targets)
    loss = Loss("weighted_cross_entropy", 0.37, 0.63, reduction="weighted_mean")(logits, targets, labels)
    assert loss.item() == pytest.approx(reference.item(), rel=1e-6)
    torch.testing.assert_close(*(torch.autograd.grad(x, logits)[0] for x in (loss, reference)))


def test_focal_is_torchvisions_in_the_binary_case():
    """With two tokens, softmax is a sigmoid of the difference: torchvision's focal loss is the reference."""
    from torchvision.ops import sigmoid_focal_loss

    logits = torch.randn(32, 2, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(32) % 3 == 0
    ours = Loss("focal", 0.25, 0.75, gamma=2.0)(logits, torch.where(labels, 1, 0), labels)
    theirs = sigmoid_focal_loss(logits[:, 1] - logits[:, 0], labels.float(), alpha=0.25, gamma=2.0, reduction="mean")
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)


@pytest.mark.parametrize("reduction", ["mean", "weighted_mean"])
def test_equal_weights_are_no_weights(reduction):
    logits, targets, labels = batch()
    plain = Loss("cross_entropy", reduction=reduction)(logits, targets, labels)
    equal = Loss("weighted_cross_entropy", 1.0, 1.0, reduction=reduction)(logits, targets, labels)
    assert equal.item() == plain.item()
    half = Loss("weighted_cross_entropy", 0.5, 0.5, reduction="weighted_mean")(logits, targets, labels)
    assert half.item() == pytest.approx(plain.item(), rel=1e-6)


@pytest.mark.parametrize("reduction", ["mean", "weighted_mean"])
def test_focal_without_gamma_is_the_weighted_loss(reduction):
    logits, targets, labels = batch()
    focal = Loss("focal", 0.37, 0.63, gamma=0.0, reduction=reduction)(logits, targets, labels)
    weighted = Loss("weighted_cross_entropy", 0.37, 0.63, reduction=reduction)(logits, targets, labels)
    assert focal_factor(torch.tensor([0.0, 1.0]), 0.0).tolist() == [1, 1], (
        "also of a certain answer: 0 to the power of 0"
    )
    assert focal.item() == weighted.item()
    assert Loss("focal", 0.37, 0.63, gamma=2.0, reduction=reduction)(logits, targets, labels).item() < focal.item()


def test_focal_is_finite_where_the_answer_is_certain():
    logits = torch.tensor([[0.0, 0.0, 200.0]], requires_grad=True)
    loss = Loss("focal", 0.5, 0.5, gamma=0.5)(logits, torch.tensor([YES]), torch.tensor([True]))
    loss.backward()
    assert loss.item() == 0 and torch.isfinite(logits.grad).all()


def test_parts_with_the_whole_batchs_divisor_sum_to_the_whole():
    logits, targets, labels = batch(size=12)
    loss = Loss("weighted_cross_entropy", 0.37, 0.63, reduction="weighted_mean")
    parts = [
        loss.values(logits[s], targets[s], labels[s]).sum() / loss.divisor(labels) for s in (slice(5), slice(5, 12))
    ]
    assert sum(parts).item() == pytest.approx(loss(logits, targets, labels).item(), rel=1e-6)


def test_balanced_weights():
    assert balanced_weights(torch.tensor([True] * 63 + [False] * 37)) == (0.37, 0.63)
    for answer, label in (("yes", True), ("no", False)):
        with pytest.raises(ConfigError, match=f"labels: {answer} for all 3 samples; a verifier can only be trained on"):
            balanced_weights(torch.full((3,), label))


def test_ranking_is_bradley_terry_over_the_pairs_of_a_group():
    margins = torch.tensor([1.0, -0.5, 2.0, 0.0, 3.0, 0.5])
    labels = torch.tensor([True, False, False, True, False, True])
    groups = torch.tensor([0, 0, 0, 1, 1, 2])
    expected = [
        float(-logsigmoid(torch.tensor([1.5, -1.0])).sum()),
        0,
        0,
        float(-logsigmoid(torch.tensor(-3.0))),
        0,
        0,
    ]
    assert ranking(margins, labels, groups).tolist() == pytest.approx(expected)
    assert ranked_pairs(labels, groups) == 3


def test_a_training_gets_the_loss_that_its_keys_say(config):
    """Of 4 labels one is yes: by weights from the data, yes weighs 3/4."""
    labels = torch.tensor([True, False, False, False])
    keys = {"alpha": 0.37, "gamma": 1.5, "reduction": "weighted_mean"}
    assert loss_of(config(loss="focal", **keys), labels) == Loss("focal", 0.37, 0.63, 1.5, "weighted_mean")
    weighted = {"loss": "weighted_cross_entropy", "reduction": "mean"}
    assert loss_of(config(**weighted, weights="data"), labels) == Loss("weighted_cross_entropy", 0.75, 0.25)
    assert loss_of(config(**weighted, weights=[0.2, 0.7]), labels) == Loss("weighted_cross_entropy", 0.2, 0.7)
    assert loss_of(config(loss="cross_entropy"), labels) == Loss("cross_entropy")
    align = {"stage": "align", "captions": None}
    assert loss_of(config(**align, loss="focal"), labels) == Loss("cross_entropy")
