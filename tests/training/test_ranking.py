"""The ranking loss: pairs of one prompt in one block, the same gradient however a batch is divided; the temperature."""

import json

import numpy as np
import pytest
import torch

from vhs.config.yamlfile import build
from vhs.errors import ConfigError
from vhs.metrics import calibration, fit_temperature
from vhs.training.config import TrainConfig
from vhs.training.orders import blocked_order
from vhs.training.trainer import Trainer, train
from vhs.verifiers.load import load_verifier


def test_an_epoch_has_every_sample_once_and_blocks_of_one_prompt():
    texts = torch.tensor([0] * 6 + [1] * 5 + [2] * 4 + [3] * 1)
    first, again, second = (blocked_order(texts, 4, epoch, 3) for epoch in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, second)
    for one in (first, second):
        assert sorted(one.tolist()) == list(range(16))
        blocks = texts[one].reshape(4, 4)
        assert sum(len(set(block.tolist())) == 1 for block in blocks) == 3, "what remains shares the fourth"


def test_the_gradient_does_not_depend_on_the_micro_batch(config):
    def gradient(micro_batch: int) -> torch.Tensor:
        trainer = Trainer(config(ranking=0.5, ranking_group=4, micro_batch=micro_batch, name=f"m{micro_batch}"))
        assert trainer.train_data.pairs(trainer.positions(0)) == 16, "two right and two wrong ones in each block"
        trainer.accumulate(0)
        return torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])

    whole = gradient(16)
    torch.testing.assert_close(gradient(4), whole, rtol=1e-4, atol=1e-6)
    plain = Trainer(config(micro_batch=16, name="plain"))
    plain.train_data.ranks, plain.train_data.ranking_group = True, 4
    plain.accumulate(0)
    without = torch.cat([p.grad.flatten() for p in plain.model.parameters() if p.grad is not None])
    assert not torch.allclose(without, whole, rtol=1e-2, atol=1e-5)


def test_a_ranking_loss_alone_tells_right_from_wrong(config):
    """Its weight is so large that the loss on the answer plays no part."""
    trained = train(config(ranking=1000.0, clip_norm=1.0, epochs=4))
    assert trained.best["eval_auc"] > 0.95


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stage": "align"}, "stage: align has no verdicts to rank by"),
        ({"micro_batch": 6}, "4 does not divide micro_batch 6 and batch_size 64"),
    ],
)
def test_what_cannot_be_ranked_is_refused(changes, message):
    values = {"stage": "finetune", "name": "a", "data": ["x"], "init": "y", "ranking": 1.0}
    with pytest.raises(ConfigError, match=message):
        build(TrainConfig, values | changes)


def test_the_temperature_is_the_one_that_the_verdicts_were_drawn_with():
    rng = np.random.default_rng(0)
    odds = rng.normal(0, 3, 20_000)
    verdicts = rng.random(20_000) < 1 / (1 + np.exp(-odds / 2.5))
    assert fit_temperature(odds, verdicts) == pytest.approx(2.5, rel=0.05)
    assert calibration(1 / (1 + np.exp(-odds / 2.5)), verdicts)["error"] < 0.01
    assert fit_temperature([1.0, -1.0], [True, False]) == pytest.approx(0.01), "the smallest that there is"
    with pytest.raises(ValueError, match="both verdicts"):
        fit_temperature([1.0], [True])


def test_a_checkpoint_states_its_temperature_and_a_run_asks_for_it(config):
    folder = train(config(max_steps=2)).checkpoint
    temperature = json.loads((folder / "config.json").read_text())["vhs_temperature"]
    features = torch.randn(3, 4, 48)
    plain, calibrated = (load_verifier(folder, calibrated=c).score("a photo of a cow", features) for c in (False, True))
    odds = torch.log(plain.p_yes / plain.p_no)
    torch.testing.assert_close(calibrated.p_yes, torch.sigmoid(odds / temperature), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(calibrated.p_yes + calibrated.p_no, torch.ones(3))
    assert torch.equal(calibrated.correct, plain.correct) and not torch.allclose(calibrated.p_yes, plain.p_yes)
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({k: v for k, v in raw.items() if k != "vhs_temperature"}))
    with pytest.raises(ConfigError, match="states no temperature"):
        load_verifier(folder, calibrated=True)
