"""The losses of a training, step by step."""

from vhs.training.config import TrainConfig
from vhs.training.trainer import Trainer


def curve(config: TrainConfig) -> list[float]:
    """The loss of every step, after which the weights are updated."""
    trainer = Trainer(config)
    losses = []
    for step in range(trainer.steps):
        losses.append(float(trainer.accumulate(step)))
        trainer.update(step)
    return losses
