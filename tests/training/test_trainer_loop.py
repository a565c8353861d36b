"""The loop step by step: which samples a step reads, what it divides by, and when it is logged, evaluated, saved.

Models are small and real; where only the order of events counts, the steps themselves are stood in for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vhs.errors import RunError
from vhs.folders import locked
from vhs.processes import Process
from vhs.training import state
from vhs.training import trainer as module
from vhs.training.dataset import Batch, TrainingData, load_data, order
from vhs.training.decontaminate import Overlap
from vhs.training.folder import describe
from vhs.training.losses import balanced_weights, ranking
from vhs.training.read_ahead import ReadAhead
from vhs.training.trainer import Result, Trainer, learning_rate, train
from vhs.verifiers.language_model import load_tokenizer
from vhs.verifiers.score import margins, score_logits

from .conftest import VERIFIER


class Placed:
    """An accelerator that says it is another process than it is: what that one would do, without the others."""

    def __init__(self, real: Any, index: int = 1, count: int = 2) -> None:
        self.real, self.process_index, self.num_processes, self.is_main_process = real, index, count, index == 0
        self.met = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def wait_for_everyone(self) -> None:
        self.met += 1

    def reduce(self, tensor: torch.Tensor, how: str) -> torch.Tensor:
        assert how == "sum"
        return 10 * tensor


def gradients(trainer: Trainer) -> list[torch.Tensor]:
    found = [parameter.grad.clone() for parameter in trainer.model.parameters() if parameter.grad is not None]
    trainer.optimizer.zero_grad()
    return found


def reads(trainer: Trainer) -> list[list[int]]:
    """A list that grows by each batch that is read from the training data."""
    seen, batch = [], trainer.train_data.batch
    trainer.train_data.batch = lambda part: seen.append(part) or batch(part)
    return seen


# --------------------------------------------------------------------------------------------------------- figures


def test_learning_rates_are_these() -> None:
    """0.25 of 10 steps is 2.5: three steps up, then a cosine over the seven that are left."""
    up = [2 / 3, 4 / 3, 2.0]
    down = [1 + math.cos(math.pi * step / 7) for step in range(7)]
    assert [learning_rate(step, 10, 2.0, 0.25) for step in range(10)] == pytest.approx(up + down)


def test_a_result_in_one_line() -> None:
    best = {"eval_loss": 0.5, "eval_auc": 0.98765}
    line = Result(Path("a/checkpoint"), 10, 8, best, 12.4).line()
    assert line == "a/checkpoint: of step 8 (eval_loss 0.5000, eval_auc 0.9877), 12 s"
    assert Result(Path("a"), 10, 8, {}, 12.4).line() == "a: of step 8, 12 s"


# ------------------------------------------------------------------------------------------------------ the beginning


def test_a_trainer_is_what_its_configuration_says(config) -> None:
    settings = config(epochs=1.3, batch_size=12)
    trainer = Trainer(settings)
    assert (trainer.width, trainer.manifest) == (48, describe(settings))
    assert (trainer.steps_per_epoch, trainer.steps) == (5, 7), "64 samples in steps of 12; 6.5 steps are begun"
    assert trainer.generator_record == {
        "pipeline": "SanaSprintPipeline",
        "ckpt": None,
        "block": "transformer_blocks.7",
        "tokens": 4,
        "width": 48,
        "step": 1,
        "steps": 1,
    }
    assert trainer.optimizer.optimizer.defaults["betas"] == (0.9, 0.999)
    assert trainer.loss.weights(trainer.train_data.labels[:0]).shape == (0,) and trainer.loss.weight_yes == 0.37
    balanced = {"loss": "weighted_cross_entropy", "weights": "data"}
    short = Trainer(config(feature="latent", max_steps=3, **balanced), {"manifest": "known"})
    assert (short.width, short.steps, short.manifest) == (48, 3, {"manifest": "known"})
    assert (short.loss.weight_yes, short.loss.weight_no) == balanced_weights(short.train_data.labels)


def test_runs_of_other_seeds_are_evaluated_on_the_same_prompts(config) -> None:
    one, other = (load_data(config(seed=seed), load_tokenizer(VERIFIER)) for seed in (0, 1))
    for first, second in zip(one, other, strict=True):
        assert first.samples == second.samples
    assert one[0].order(0, 0).tolist() != other[0].order(0, 1).tolist()


@pytest.mark.parametrize(("shape", "tokens"), [((4, 48), 4), ((48, 2, 3), 6)])
def test_the_longest_prompt_of_either_split_is_measured_with_the_picture(config, monkeypatch, shape, tokens) -> None:
    trainer, measured = Trainer(config()), []
    monkeypatch.setattr(module, "check_length", lambda *given: measured.append(given))
    trainer._check_context(shape)
    expected = []
    for data in (trainer.train_data, trainer.eval_data):
        texts = [data.sets[0].prompt(sample.index).text for sample in data.samples]
        lengths = [len(trainer.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
        position = lengths.index(max(lengths))
        row = data.texts.lengths[data.samples[position].text]
        ids = [0] * (len(data.texts.before) + 1 + int(row))
        expected.append((ids, tokens, trainer.initial.context, texts[position]))
    assert measured == expected and expected[0][3] != expected[1][3]


def test_a_batch_divides_among_the_processes_and_a_ranking_group_in_each(config) -> None:
    trainer = Trainer(config(ranking=1.0, ranking_group=4))
    for count, message in (
        (3, "batch_size: 16 does not divide among 3 processes"),
        (
            8,
            "ranking_group: 4 does not divide the 2 samples that each of 8 processes has of a batch; another",
        ),
    ):
        trainer.accelerator = Placed(trainer.accelerator, 0, count)
        with pytest.raises(RunError, match=message):
            trainer._check_batch()
    trainer.accelerator = Placed(trainer.accelerator, 0, 4)
    trainer._check_batch()
    plain = Trainer(config())
    plain.accelerator = Placed(plain.accelerator, 0, 8)
    plain._check_batch()


def test_streams_divide_among_the_processes_which_keep_their_shards(config) -> None:
    trainer, kept = Trainer(config()), []
    trainer.train_data.streams = SimpleNamespace(count=6)
    trainer.train_data.keep_shards = kept.append
    trainer.accelerator = Placed(trainer.accelerator, 0, 2)
    trainer._check_batch()
    trainer.accelerator = Placed(trainer.accelerator, 0, 4)
    with pytest.raises(RunError) as refused:
        trainer._check_batch()
    told = "streams: 6 do not divide among 4 processes, which would all read every shard; streams: 4 would"
    assert str(refused.value) == told and kept == [2]


# ------------------------------------------------------------------------------------------------------------- a step


def test_a_steps_samples_are_a_slice_of_its_epochs_order_whatever_was_asked_before(config) -> None:
    trainer = Trainer(config(batch_size=12, seed=3))
    asked, original = [], trainer.train_data.order
    trainer.train_data.order = lambda epoch, seed: asked.append((epoch, seed)) or original(epoch, seed)
    assert trainer.positions(6) == order(64, 1, 3)[12:24].tolist()
    assert trainer.positions(9) == order(64, 1, 3)[48:60].tolist()
    assert trainer.positions(4) == order(64, 0, 3)[48:60].tolist()
    assert asked == [(1, 3), (0, 3)], "an epoch's order is made once"


def test_the_gradient_is_that_of_the_whole_batchs_loss(config) -> None:
    """Also of a process that has the second half of it: processes average, so it counts twice there."""
    trainer = Trainer(config(micro_batch=5, reduction="weighted_mean"))
    whole = trainer.positions(0)
    divisor = trainer.loss.divisor(trainer.train_data.labels[torch.tensor(whole)])
    values, _ = trainer._losses(trainer.train_data.batch(whole))
    (values.sum() / divisor).backward()
    expected = gradients(trainer)
    assert trainer.accumulate(0).item() == pytest.approx(values.sum().item() / divisor, rel=1e-5)
    for ours, theirs in zip(gradients(trainer), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    values, _ = trainer._losses(trainer.train_data.batch(whole[8:]))
    (2 * values.sum() / divisor).backward()
    expected = gradients(trainer)
    trainer.accelerator = Placed(trainer.accelerator)
    assert trainer.accumulate(0).item() == pytest.approx(values.sum().item() / divisor, rel=1e-5)
    for ours, theirs in zip(gradients(trainer), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_ranking_loss_is_added_per_pair_with_its_weight(config) -> None:
    trainer = Trainer(config(ranking=0.5, ranking_group=4, micro_batch=8))
    whole = trainer.positions(0)
    batch = trainer.train_data.batch(whole)
    values, logits = trainer._losses(batch)
    ranked = ranking(margins(logits, *trainer.train_data.answers), batch.labels, batch.groups).sum()
    expected = values.sum() / 16 + 0.5 * ranked / trainer.train_data.pairs(whole)
    assert trainer.accumulate(0).item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_step_draws_from_its_own_stream_and_exchanges_gradients_in_its_last_part(config, monkeypatch) -> None:
    trainer, last = Trainer(config(micro_batch=5, max_steps=2, seed=3)), []
    synchronised = module._synchronised
    monkeypatch.setattr(module, "_synchronised", lambda a, model, end: last.append(end) or synchronised(a, model, end))
    seen = reads(trainer)
    trainer.model.eval()
    trainer.accumulate(0)
    assert trainer.model.training and torch.initial_seed() == 3 * 1_000_003 * 4096
    assert last == [False, False, False, True]
    trainer.accelerator = Placed(trainer.accelerator)
    trainer.reader.ahead.batch.result()
    trainer.accumulate(1)
    assert torch.initial_seed() == (3 * 1_000_003 + 1) * 4096 + 1
    first, second = trainer.positions(0), trainer.positions(1)
    alone = [first[:5], first[5:10], first[10:15], first[15:], second[:5]]
    assert seen == [*alone, second[8:13], second[13:]], "the first part of a following step is read ahead"


def test_shards_are_expected_some_steps_before_they_are_used(config, monkeypatch) -> None:
    trainer, expected = Trainer(config(micro_batch=5, max_steps=3)), []
    monkeypatch.setattr(module, "AHEAD", 2)
    trainer.accumulate(0)
    trainer.train_data.streams, trainer.train_data.expect = "streams", expected.append
    for step in range(3):
        trainer.accumulate(step)
    assert expected == [trainer.positions(2)]


def test_gradients_are_not_exchanged_before_the_last_part() -> None:
    accelerator = SimpleNamespace(no_sync=lambda model: ("no_sync", model))
    assert module._synchronised(accelerator, "model", False) == ("no_sync", "model")
    with module._synchronised(accelerator, "model", True) as nothing:
        assert nothing is None


def test_a_processs_parts_are_micro_batches_of_its_share(config) -> None:
    trainer = Trainer(config(micro_batch=3))
    whole = trainer.positions(1)
    trainer.accelerator = Placed(trainer.accelerator, 2, 4)
    assert trainer._parts(1) == [whole[8:11], whole[11:12]]


def test_one_batch_is_read_ahead_for_whoever_asks_for_it() -> None:
    reader, seen = ReadAhead(), []
    data = SimpleNamespace(batch=lambda part: seen.append(part) or [len(seen), part])
    other = SimpleNamespace(batch=lambda part: ["other", part])
    assert list(reader.over(data, [[0], [1]], [[2]])) == [([0], [1, [0]]), ([1], [2, [1]])]
    assert list(reader.over(data, [[2]])) == [([2], [3, [2]])] and seen == [[0], [1], [2]]
    assert reader.ahead is None
    assert list(reader.over(data, [[3]], [[4]])) == [([3], [4, [3]])]
    assert list(reader.over(other, [[4]])) == [([4], ["other", [4]])], "of another split: read again"
    assert list(reader.over(data, [[5]], [[6]])) == [([5], [6, [5]])]
    assert list(reader.over(data, [[7]])) == [([7], [8, [7]])], "another part than was foreseen"


def test_an_update_clips_and_follows_each_groups_rate(config, monkeypatch) -> None:
    keys = {"connector_learning_rate": 1e-2, "clip_norm": 0.5, "warmup_ratio": 0.3, "max_steps": 8}
    trainer = Trainer(config(**keys))
    moved = [parameter for parameter in trainer.model.parameters() if parameter.requires_grad]
    for parameter in moved:
        parameter.grad = torch.full_like(parameter, 0.01)
    before = [parameter.detach().clone() for parameter in moved]
    clipped, step = [], trainer.optimizer.step
    monkeypatch.setattr(
        trainer.optimizer, "step", lambda: (clipped.extend(p.grad.square().sum() for p in moved), step())
    )
    count = sum(parameter.numel() for parameter in moved)
    assert trainer.update(5) == pytest.approx(0.01 * count**0.5, rel=1e-4)
    assert float(sum(clipped)) == pytest.approx(0.5**2, rel=1e-4)
    rates = {(group["peak"], group["lr"]) for group in trainer.optimizer.param_groups}
    assert rates == {(peak, learning_rate(5, 8, peak, 0.3)) for peak in (1e-2, 3e-3)}
    assert all(parameter.grad is None for parameter in moved)
    changes = [float((old - new.detach()).abs().max()) for old, new in zip(before, moved, strict=True)]
    assert min(changes) > 1e-3 and max(changes) < 1e-2


def test_a_sharded_norm_is_put_together_and_one_that_is_not_finite_stops_the_training(config) -> None:
    trainer = Trainer(config())
    norms = [SimpleNamespace(full_tensor=lambda: torch.tensor(2.5)), torch.tensor(float("inf"))]
    trainer.accelerator = SimpleNamespace(clip_grad_norm_=lambda parameters, most: norms.pop(0))
    assert trainer.update(0) == 2.5
    with pytest.raises(RunError, match="^step 7: the gradient is not finite; nothing was saved yet$"):
        trainer.update(7)


def test_a_loss_that_is_not_finite_names_its_sample_and_what_is_kept(config) -> None:
    trainer = Trainer(config())
    trainer._check_finite(torch.tensor([1.0, 2.0]), None, [], 4)
    (trainer.config.folder / "state").mkdir(parents=True)
    (trainer.config.folder / "state" / "record.json").write_text('{"record": {"step": 4}}')
    batch = SimpleNamespace(rows=torch.tensor([0, 0, 1, 2]))
    with pytest.raises(RunError) as stopped:
        trainer._check_finite(torch.tensor([1.0, 2.0, float("inf"), float("nan")]), batch, [9, 7, 8], 4)
    name = trainer.train_data.name(7)
    kept = "the state of step 4 and the checkpoint are kept"
    assert str(stopped.value) == f"step 4: the loss of {name} is not finite; {kept}"
    losses = trainer._losses

    def broken(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        values, logits = losses(batch)
        return values.index_fill(0, torch.tensor([3]), float("nan")), logits

    trainer._losses = broken
    with pytest.raises(RunError) as stopped:
        trainer.accumulate(2)
    name = trainer.train_data.name(trainer.positions(2)[3])
    assert str(stopped.value) == f"step 2: the loss of {name} is not finite; {kept}"


# --------------------------------------------------------------------------------------------------------- evaluation


def test_a_process_scores_its_share_in_as_many_passes_as_the_others(config) -> None:
    """13 samples are 7 for process 0 and 6 for process 1, in passes of 3: three, of which the last one is dropped."""
    trainer = Trainer(config(micro_batch=3, loss="cross_entropy"))
    trainer.model.eval()
    whole = trainer.eval_data
    data = TrainingData(whole.sets, whole.samples[:13], whole.texts, whole.feature, whole.answers)
    passes, losses = [], trainer._losses
    trainer._losses = lambda batch: passes.append(len(batch.labels)) or losses(batch)
    trainer.accelerator = Placed(trainer.accelerator)
    with torch.no_grad():
        rows = trainer._scored(data)
        assert passes == [3, 3, 1] and [row[0] for row in rows] == [1, 3, 5, 7, 9, 11]
        values, logits = losses(data.batch([1, 3, 5, 7, 9, 11]))
    scores = score_logits(logits, *data.answers, trainer._affirms).score
    odds = margins(logits, *data.answers)
    expected = list(zip(values.tolist(), scores.tolist(), odds.tolist(), strict=True))
    assert [row[1:] for row in rows] == [pytest.approx(row, abs=1e-5) for row in expected]


def test_captions_have_a_loss_per_word_and_no_score(config) -> None:
    trainer = Trainer(config(stage="align", captions=None, micro_batch=6))
    trainer.model.eval()
    data = trainer.eval_data
    with torch.no_grad():
        rows = trainer._scored(data)
        values, _ = trainer._losses(data.batch(range(16)))
    owners = [position for position in range(16) for _ in range(int(data.texts.counts[data.samples[position].text]))]
    assert [row[0] for row in rows] == owners and {row[2:] for row in rows} == {(0.0, 0.0)}
    assert [row[1] for row in rows] == pytest.approx(values.tolist(), abs=1e-4)


# ------------------------------------------------------------------------------------------------------------ the run


class Run:
    """A trainer whose steps are stood in for: step s has a loss of 2 ** s and a norm of s + 0.5."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, settings, losses: Sequence[float] = ()) -> None:
        self.trainer = Trainer(settings)
        self.saved, self.kept, self.told, self.left = [], [], [], list(losses)
        self.trainer.accelerator = Placed(self.trainer.accelerator, 0)
        self.trainer.accumulate = lambda step: torch.tensor(2.0**step)
        self.trainer.update = lambda step: step + 0.5
        self.trainer.evaluate = lambda: {"eval_loss": self.left.pop(0)}
        monkeypatch.setattr(state, "save_state", lambda a, c, record: self.saved.append(record.step))
        monkeypatch.setattr(module, "save", lambda *given, **own: self.kept.append(given[6]))
        times = [10.0, 22.3456]
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: times.pop(0)))

    def __call__(self) -> Result:
        return self.trainer.run(lambda *given: self.told.append(given))

    @property
    def log(self) -> list[dict]:
        return [json.loads(line) for line in (self.trainer.config.folder / "log.jsonl").read_text().splitlines()]


def test_a_run_logs_evaluates_and_saves_when_it_should(config, monkeypatch) -> None:
    """7 steps, of which every second is logged, every third saved, every fourth evaluated, and the last all of it. The
    loss of a line is the mean since the line before (the other process has nine times as much)."""
    settings = config(batch_size=8, max_steps=7, log_every=2, save_every=3, eval_every=4)
    run = Run(monkeypatch, settings, [0.5, 0.7])
    run.trainer.train_data.left_out = [Overlap("é", "exact", "f"), Overlap("b", "normalised", "f")]
    result = run()
    folder = settings.folder
    assert result == Result(folder / "checkpoint", 7, 4, {"eval_loss": 0.5}, 12.3)

    def line(step: int, loss: float) -> dict[str, float]:
        rate = learning_rate(step - 1, 7, settings.learning_rate, settings.warmup_ratio)
        return {"step": step, "loss": 10 * loss, "lr": rate, "grad_norm": step - 0.5}

    losses = {2: (1 + 2) / 2, 3: 4, 4: 8, 6: (16 + 32) / 2, 7: 64}
    lines = [line(step, loss) for step, loss in losses.items()]
    four, seven = {"step": 4, "eval_loss": 0.5}, {"step": 7, "eval_loss": 0.7}
    assert run.log == [*lines[:3], four, *lines[3:], seven]
    assert run.told == [(row["step"], 7, {k: row[k] for k in row if "loss" in k}) for row in run.log]
    assert run.saved == [3, 6, 7] and run.kept == [folder / "checkpoint"]
    ended = json.loads((folder / "train.json").read_text())
    assert ended.items() >= {**run.trainer.manifest, "step": 7, "best_step": 4, "seconds": 12.3}.items()
    assert ended["left_out"] == {"exact": 1, "normalised": 1} and ended["best"] == {"eval_loss": 0.5}


def test_an_epoch_is_when_to_evaluate_and_save_where_nothing_is_said(config, monkeypatch) -> None:
    run = Run(monkeypatch, config(batch_size=16, epochs=2, log_every=100), [0.5, 0.4])
    begun, file = [], run.trainer.config.folder / "train.json"
    run.trainer.accumulate = lambda step: begun.append(json.loads(file.read_text())) or torch.tensor(1.0)
    result = run()
    assert begun == [run.trainer.manifest] * 8, "it says what is being trained before the first step"
    assert [(row["step"], "loss" in row) for row in run.log] == [(4, True), (4, False), (8, True), (8, False)]
    assert run.saved == [4, 8] and len(run.kept) == 2 and (result.best_step, result.best) == (8, {"eval_loss": 0.4})


def test_the_checkpoint_can_be_that_of_the_best_auc(config, monkeypatch) -> None:
    run = Run(monkeypatch, config(batch_size=16, epochs=3, best_by="eval_auc"))
    found = [
        {"eval_loss": 0.5, "eval_auc": 0.6},
        {"eval_loss": 0.7, "eval_auc": 0.8},
        {"eval_loss": 0.4, "eval_auc": 0.8},
    ]
    run.trainer.evaluate = lambda: found.pop(0)
    result = run()
    assert (result.best_step, result.best) == (8, {"eval_loss": 0.7, "eval_auc": 0.8}) and len(run.kept) == 2
    run = Run(monkeypatch, config(batch_size=16, name="other", best_by="eval_auc"), [0.5])
    with pytest.raises(RunError, match="best_by: eval_auc: no held-out prompt has candidates of both verdicts"):
        run()


def test_without_evaluation_the_end_is_the_checkpoint_and_a_run_goes_on_where_it_was(config, monkeypatch) -> None:
    run = Run(monkeypatch, config(batch_size=16, max_steps=5, log_every=1, eval_fraction=0))
    monkeypatch.setattr(state, "begin", lambda *given: state.Record(3))
    assert run() == Result(run.trainer.config.folder / "checkpoint", 5, 5, {}, 12.3)
    assert [row["step"] for row in run.log] == [4, 5] and len(run.kept) == 1
    assert [row["loss"] for row in run.log] == [80, 160]
    again = Run(monkeypatch, run.trainer.config)
    monkeypatch.setattr(state, "begin", lambda *given: state.Record(5, 5))
    assert again().best_step == 5 and again.kept == again.saved == []


def test_prompts_that_are_left_out_are_listed_by_the_first_process(config) -> None:
    trainer = Trainer(config())
    trainer.accelerator = Placed(trainer.accelerator)
    file = trainer.config.folder / "left_out.jsonl"
    trainer.train_data.left_out = [Overlap("é", "exact", "f"), Overlap("b", "normalised", "g")]
    assert trainer._list_left_out() == {"exact": 1, "normalised": 1} and not file.exists()
    trainer.accelerator = Placed(trainer.accelerator, 0)
    trainer._list_left_out()
    assert file.read_bytes().decode() == (
        '{"prompt": "é", "kind": "exact", "file": "f"}\n{"prompt": "b", "kind": "normalised", "file": "g"}\n'
    )
    file.unlink()
    trainer.train_data.left_out = []
    assert trainer._list_left_out() == {"exact": 0, "normalised": 0} and not file.exists()


def test_a_model_is_kept_when_its_evaluation_loss_is_the_lowest(config, monkeypatch) -> None:
    trainer, kept, told = Trainer(config()), [], []
    monkeypatch.setattr(trainer, "_keep", lambda record, figures: kept.append((record.step, figures)))
    losses = [0.5, 0.5, 0.4, float("nan")]
    monkeypatch.setattr(trainer, "evaluate", lambda: {"eval_loss": losses.pop(0)})
    for best in ({}, {"eval_loss": 0.5}, {"eval_loss": 0.5}):
        trainer._evaluated(state.Record(3, best=best), lambda *given: told.append(given))
    assert kept == [(3, {"eval_loss": 0.5}), (3, {"eval_loss": 0.4})]
    assert told == [(3, trainer.steps, {"eval_loss": loss}) for loss in (0.5, 0.5, 0.4)]
    with pytest.raises(RunError, match="^step 6: the evaluation loss is not finite; nothing was saved yet$"):
        trainer._evaluated(state.Record(6), lambda *given: None)


def test_the_first_process_writes_the_checkpoint_and_the_others_wait(config, monkeypatch) -> None:
    trainer, written = Trainer(config()), []
    monkeypatch.setattr(module, "save", lambda *given, **own: written.append((given, own)))
    trainer.accelerator, record = Placed(trainer.accelerator, 0), state.Record(6)
    trainer._keep(record, {"eval_loss": 0.5, "temperature": 1.5})
    assert record == state.Record(6, 6, {"eval_loss": 0.5, "temperature": 1.5}) and trainer.accelerator.met == 1
    [((tensors, *given), own)] = written
    assert tensors.keys() == trainer.model.state_dict().keys()
    folder = trainer.config.folder / "checkpoint"
    assert given == [trainer.model, trainer.tokenizer, trainer.config, trainer.initial, 48, folder]
    trained_input = {"use_generation_prompt": False, "statistics": None}
    assert own == {"generator": trainer.generator_record, "trained_input": trained_input, "temperature": 1.5}
    trainer.config = trainer.config.model_copy(update={"feature": "clip"})
    trainer._keep(record, {})
    assert written[1][1] == {"generator": None, "trained_input": trained_input, "temperature": None}
    trainer.accelerator = Placed(trainer.accelerator)
    trainer._keep(record, {})
    assert len(written) == 2 and trainer.accelerator.met == 1


# ------------------------------------------------------------------------------------------------------ the whole of it


class Samples(list):
    """64 of them, and the prompts that were left out."""

    def __init__(self, left_out: Sequence[str]) -> None:
        super().__init__(range(64))
        self.left_out = left_out


def standing(left_out: Sequence[str] = (), held_out: Sequence[int] | None = range(16)):
    """Stands for a trainer: what `train` says about one, and what it passes on."""

    def build(settings, manifest) -> SimpleNamespace:
        run = lambda progress: (settings, manifest, progress)  # noqa: E731
        return SimpleNamespace(train_data=Samples(left_out), eval_data=held_out, steps=3, run=run)

    return build


def test_train_says_what_it_will_do(config, monkeypatch) -> None:
    settings, said = config(), []
    for trainer in (standing(), standing(["a prompt", "another"], None)):
        monkeypatch.setattr(module, "Trainer", trainer)
        assert train(settings, "progress", said.append) == (settings, describe(settings), "progress")
    assert said == [
        "64 samples, 16 held out; 3 steps of 16",
        "64 samples, 2 prompts of evaluations left out; 3 steps of 16",
    ]


def test_only_the_first_process_locks_and_clears_the_folder_and_all_meet_before_they_decide(config, monkeypatch):
    settings, met = config(timeout=7, cont=True), []
    monkeypatch.setattr(module, "Trainer", standing())
    partial = settings.folder / "state.partial"
    partial.mkdir(parents=True)
    (settings.folder / "train.json").write_text(json.dumps(describe(settings)))
    for index in (1, 0):
        process = Process(index, 2, index, lambda: met.append(partial.exists()))
        monkeypatch.setattr(module, "current_process", lambda timeout, process=process: {7: process}[timeout])
        with locked(settings.folder) if index else nullcontext():
            train(settings)
    assert met == [True, False]
    with locked(settings.folder), pytest.raises(RunError, match="another training is being written there"):
        train(settings)


def test_a_training_that_is_done_is_told_as_it_ended(config) -> None:
    settings, said = config(max_steps=1), []
    ended = train(settings)
    assert ended == Result(settings.folder / "checkpoint", 1, 1, ended.best, ended.seconds) and ended.seconds > 0
    assert {"eval_loss", "eval_accuracy", "eval_auc", "temperature"} == ended.best.keys()
    (settings.folder / ".replaces").write_text("nothing")
    assert train(settings, say=said.append) == ended and not (settings.folder / ".replaces").exists()
    assert said == [f"{settings.folder}: already done; overwrite=true makes it again"]
    file = settings.folder / "train.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "best_step": "the last"}))
    with pytest.raises(RunError, match="train.json: best_step: .*; overwrite=true makes it again$"):
        train(settings)
