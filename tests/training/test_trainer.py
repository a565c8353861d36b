"""Training on a real small LLM: it learns, resumes bit for bit, divides batches without a trace, and stops."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.fake_gpu import fake_gpu, moved
from vhs.errors import CheckpointError, ConfigError, PromptError, RunError
from vhs.training.data.commands import run_normalize
from vhs.training.data.store import CollectedSet, shard_path, write_shard
from vhs.training.data.tasks import NormalizeConfig
from vhs.training.trainer import Trainer, learning_rate, train
from vhs.verifiers.load import load_verifier

GOLDENS = Path(__file__).parents[1] / "goldens"


def log_of(config) -> list[dict]:
    return [json.loads(line) for line in (config.folder / "log.jsonl").read_text().splitlines()]


def gradients(trainer: Trainer) -> dict[str, torch.Tensor]:
    model = trainer.accelerator.unwrap_model(trainer.model)
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_both_stages_learn(config, tmp_path):
    """Align on captions, then finetune on verdicts that the features tell: held-out prompts are judged nearly
    perfectly, through `load_verifier` as well."""
    first = train(config(stage="align", name="align", captions=None, epochs=6, learning_rate=1e-2))
    losses = [row["eval_loss"] for row in log_of(config(name="align")) if "eval_loss" in row]
    assert losses[-1] < losses[0] - 0.5
    result = train(config(init=str(first.checkpoint), epochs=12))
    assert result.best["eval_auc"] > 0.95
    verifier = load_verifier(result.checkpoint, "hidden_7", use_generation_prompt=False)
    data = CollectedSet(config().data[0])
    score = verifier.score(data.prompt(0).text, data.gather("hidden_7", range(4))).score
    assert (score[[0, 2]].min() > score[[1, 3]].max()).item()


def test_align_trains_the_connector_alone(config, language_model):
    result = train(config(stage="align", captions=None, max_steps=2))
    saved, before = load_file(result.checkpoint / "model.safetensors"), load_file(language_model / "model.safetensors")
    assert all(torch.equal(saved[name], tensor.float()) for name, tensor in before.items() if name in saved)
    assert sum(name.startswith("model.mm_projector.") for name in saved) == 4


def test_further_verdicts_are_trained_on_but_never_on_a_prompt_that_is_evaluated(config, write_set, tmp_path):
    """Candidate 1 of every prompt is also asked about the next prompt, and about a sentence that no prompt has."""
    folder = write_set(tmp_path / "set", prompts=20)
    data = CollectedSet(folder)
    own = [data.prompt(i).text for i in range(0, 80, 4)]
    rows = [
        {"prompt_id": 100 + i, "candidate": 1, "prompt": text, "correct": i % 2 == 0}
        for i in range(20)
        for text in (own[(i + 1) % 20], "a photo of two cows")
    ]
    (folder / "more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    plain = Trainer(config(data=[str(folder)]))
    trainer = Trainer(config(data=[str(folder)], more_labels="more.jsonl"))
    evaluated = {data.prompt(s.index).text for s in trainer.eval_data.samples}
    assert len(evaluated) == 4 and len(trainer.eval_data) == len(plain.eval_data) == 16
    wanted = [row for i, row in enumerate(rows) if own[i // 2] not in evaluated and row["prompt"] not in evaluated]
    added = trainer.train_data.samples[len(plain.train_data) :]
    assert [(s.index, s.label) for s in added] == [(4 * (r["prompt_id"] - 100) + 1, r["correct"]) for r in wanted]
    texts = trainer.train_data.texts
    last = [texts.after[s.text, : texts.lengths[s.text]].tolist() for s in added]
    assert len({tuple(ids) for ids in last}) == len({row["prompt"] for row in wanted})
    train(config(data=[str(folder)], more_labels="more.jsonl", max_steps=2))
    (folder / "more.jsonl").write_text('{"prompt_id": 100, "candidate": 1, "correct": true}\n')
    with pytest.raises(
        ConfigError, match=r"more.jsonl:1: a JSON object with prompt_id, candidate, prompt, correct is needed"
    ):
        Trainer(config(data=[str(folder)], more_labels="more.jsonl"))
    with pytest.raises(ConfigError, match=r"none.jsonl: no such file; more_labels names a file of your own"):
        Trainer(config(data=[str(folder)], more_labels="none.jsonl"))


@pytest.mark.parametrize("start", [None, "vhs-qwen3-tiny", "vhs-tiny-untied", "vhs-tiny-norm_mlp2x_gelu"])
def test_evaluation_equals_the_verifiers_own_scores(config, tmp_path, start):
    """The trainer's padded batches and `verifier.score` see the same loss, -log p of the verdict's token, whatever
    training starts from: a language model, or golden C's verifiers."""
    if start is not None:
        shutil.copytree(GOLDENS / "A" / "vhs-tiny-hidden", tmp_path / start)
        shutil.copytree(GOLDENS / "C" / start, tmp_path / start, dirs_exist_ok=True)
    init = {} if start is None else {"init": str(tmp_path / start)}
    trainer = Trainer(config(loss="cross_entropy", max_steps=1, **init))
    checkpoint = trainer.run().checkpoint
    verifier = load_verifier(checkpoint, use_generation_prompt=False)
    data, expected = trainer.eval_data, []
    for sample in data.samples:
        source = data.sets[sample.source]
        score = verifier.score(source.prompt(sample.index).text, source.gather("hidden_7", [sample.index]))
        expected.append(-torch.log(score.p_yes if sample.label else score.p_no).item())
    assert trainer.evaluate()["eval_loss"] == pytest.approx(sum(expected) / len(expected), abs=1e-4)


@pytest.mark.parametrize("changes", [{}, {"lora_rank": 2, "lora_dropout": 0.5}])
def test_resumed_training_is_the_uninterrupted_one(config, monkeypatch, changes):
    whole = config(name="whole", save_every=3, **changes)
    train(whole)
    cut = config(name="cut", save_every=3, **changes)
    stop = Trainer(cut)
    original = stop.accumulate
    monkeypatch.setattr(stop, "accumulate", lambda step: original(step) if step < 5 else _interrupt())
    with pytest.raises(KeyboardInterrupt):
        stop.run()
    assert json.loads((cut.folder / "state" / "record.json").read_text())["record"]["step"] == 3
    train(cut.model_copy(update={"cont": True}))
    assert log_of(whole) == log_of(cut)
    for name in ("checkpoint", "state"):
        ours, theirs = (load_file(c.folder / name / "model.safetensors") for c in (whole, cut))
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def _interrupt():
    raise KeyboardInterrupt


def test_micro_batches_change_nothing(config):
    """Lengths and classes differ between the parts: a mean of means would give another gradient."""
    grads = []
    for micro in (16, 5):
        trainer = Trainer(config(micro_batch=micro, reduction="weighted_mean"))
        loss = trainer.accumulate(0)
        grads.append((loss, gradients(trainer)))
    (loss, whole), (other, parts) = grads
    assert loss.item() == pytest.approx(other.item(), rel=1e-5)
    assert max((whole[name] - parts[name]).abs().max().item() for name in whole) < 1e-5
    assert max(tensor.abs().max().item() for tensor in whole.values()) > 1e-2


def test_the_next_step_is_read_ahead_although_a_step_is_one_micro_batch(config, monkeypatch):
    trainer, read = Trainer(config()), []
    batch = trainer.train_data.batch
    monkeypatch.setattr(trainer.train_data, "batch", lambda positions: read.append(positions) or batch(positions))
    trainer.accumulate(0)
    trainer.reader.ahead.batch.result()
    assert read == [*trainer._parts(0), *trainer._parts(1)] and len(read) == 2


TWO_PROCESSES = """
import sys, torch
from vhs.training.config import TrainConfig
from vhs.training.trainer import Trainer
trainer = Trainer(TrainConfig.model_validate_json(open(sys.argv[1]).read()))
trainer.accumulate(0)
assert trainer.accelerator.num_processes == 2
if trainer.accelerator.is_main_process:
    model = trainer.accelerator.unwrap_model(trainer.model)
    torch.save({n: p.grad for n, p in model.named_parameters() if p.grad is not None}, sys.argv[2])
trainer.optimizer.zero_grad()
trainer.run()

from vhs.training.data.commands import run_normalize
from vhs.training.data.tasks import NormalizeConfig
done = run_normalize(NormalizeConfig(data=trainer.config.data * 2, output="two", samples=50), print)
assert (done is not None) == trainer.accelerator.is_main_process
trainer.accelerator.end_training()
"""


@pytest.mark.slow
def test_two_processes_with_half_the_batch_give_the_same_gradients(config, tmp_path, write_set):
    """They evaluate 7 samples in micro-batches of 3: two forward passes of one process, and one of the other."""
    odd = write_set(tmp_path / "odd", prompts=5, candidates=7)
    settings = config(data=[str(odd)], reduction="weighted_mean", micro_batch=3, max_steps=1)
    single = Trainer(settings)
    single.accumulate(0)
    whole = gradients(single)
    single.optimizer.zero_grad()
    single.run()
    alone = log_of(settings)
    shutil.rmtree(settings.folder)
    (tmp_path / "config.json").write_text(settings.model_dump_json())
    (tmp_path / "two.py").write_text(TWO_PROCESSES)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "ACCELERATE_USE_CPU": "true"}
    subprocess.run(
        [*launch, "two.py", "config.json", "grads.pt"], cwd=tmp_path, check=True, timeout=900, env=environment
    )
    halves = torch.load(tmp_path / "grads.pt", weights_only=True)
    assert whole.keys() == halves.keys()
    assert max((whole[name] - halves[name]).abs().max().item() for name in whole) < 1e-5
    assert len(alone) == 2 and json.loads((settings.folder / "train.json").read_text())["processes"] == 2
    for ours, theirs in zip(alone, log_of(settings), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)
    load_verifier(settings.folder / "checkpoint")
    done = run_normalize(NormalizeConfig(data=[str(odd)] * 2, output=str(tmp_path / "one"), samples=50), print)
    assert done.count == 50 * 4
    for path in done.paths:
        assert torch.equal(*(torch.load(tmp_path / of / path.name, weights_only=True) for of in ("one", "two")))


def test_lora_is_merged_when_saved(config):
    """The saved verifier, without adapters, scores what the adapted model in training gives."""
    trainer = Trainer(config(lora_rank=2, max_steps=4, loss="cross_entropy", eval_every=4))
    result = trainer.run()
    names = load_file(result.checkpoint / "model.safetensors").keys()
    assert not any("lora" in name or "base_layer" in name for name in names)
    frozen = [
        n for n, p in trainer.accelerator.unwrap_model(trainer.model).llm.named_parameters() if not p.requires_grad
    ]
    assert frozen and all("lora" not in name for name in frozen)
    verifier, data = load_verifier(result.checkpoint, use_generation_prompt=False), trainer.eval_data
    source, sample = data.sets[0], data.samples[0]
    score = verifier.score(source.prompt(sample.index).text, source.gather("hidden_7", [sample.index]))
    with torch.no_grad():
        values, _ = trainer._losses(data.batch([0]))
    assert -torch.log(score.p_yes if sample.label else score.p_no).item() == pytest.approx(values.item(), abs=1e-4)


@pytest.mark.parametrize("changes", [{}, {"stage": "align", "captions": None}, {"lora_rank": 2}, {"feature": "latent"}])
def test_a_step_on_a_gpu_stays_there(config, changes):
    trainer = Trainer(config(**changes))
    batch = trainer.train_data.batch(trainer.positions(0))
    with fake_gpu() as gpu:
        batch = type(batch)(**{name: gpu.from_tensor(tensor).to("cuda") for name, tensor in vars(batch).items()})
        model = moved(trainer.model, gpu)
        logits = model(trainer.preprocess(batch.features), batch.after, batch.rows, batch.columns)
        values = trainer.loss.values(logits, batch.targets, batch.labels)
    assert values.device.type == "cuda" and values.shape == batch.targets.shape


def test_gradient_checkpointing_changes_nothing(config):
    grads = []
    for checkpointing in (False, True):
        trainer = Trainer(config(gradient_checkpointing=checkpointing))
        trainer.accumulate(0)
        grads.append(gradients(trainer))
    assert max((grads[0][name] - grads[1][name]).abs().max().item() for name in grads[0]) < 1e-5


def test_latents_and_normalisation_are_read_as_the_verifier_reads_them(config, tmp_path):
    from vhs.training.data.normalization import Moments, save_statistics

    data = CollectedSet(config().data[0])
    moments = Moments().update(data.gather("hidden_7", range(len(data))))
    mean, variance = save_statistics(moments, tmp_path, "hidden_7")
    paths = {"normalization_mean_path": str(mean), "normalization_variance_path": str(variance)}
    for name, changes in (("normalised", paths), ("latent", {"feature": "latent"})):
        trainer = Trainer(config(name=name, loss="cross_entropy", max_steps=1, **changes))
        verifier = load_verifier(
            trainer.run().checkpoint,
            trainer.config.feature,
            use_generation_prompt=False,
            **(changes if changes is paths else {}),
        )
        sample, split = trainer.eval_data.samples[0], trainer.eval_data
        features = data.gather(trainer.config.feature, [sample.index])
        score = verifier.score(data.prompt(sample.index).text, features)
        with torch.no_grad():
            values, _ = trainer._losses(split.batch([0]))
        assert -torch.log(score.p_yes if sample.label else score.p_no).item() == pytest.approx(values.item(), abs=1e-5)


def test_learning_rate_by_hand():
    rates = [learning_rate(step, 100, 2.0, 0.03) for step in range(100)]
    assert rates[:3] == pytest.approx([2 / 3, 4 / 3, 2.0]) and rates[3] == 2.0
    assert rates[3 + 97 // 2] == pytest.approx(1.0, abs=0.02) and 0 < rates[-1] < 0.002
    assert learning_rate(0, 10, 1.0, 0.0) == 1.0


# ------------------------------------------------------------------------------------------------------------ bad input


def with_shard(folder: Path, change) -> Path:
    tensors = load_file(shard_path(folder, 1))
    write_shard(folder, 1, change(tensors))
    return folder


def test_nan_in_a_feature_names_the_sample_and_keeps_the_state(config, tmp_path, write_set):
    folder = write_set(tmp_path / "bad", prompts=20)

    def spoil(tensors):
        tensors["hidden_7"][5, 2, 3] = float("nan")
        return tensors

    with_shard(folder, spoil)
    settings = config(data=[str(folder)], eval_fraction=0, save_every=1, batch_size=4, seed=1)
    with pytest.raises(ConfigError, match=r"prompt 00105 candidate 1: hidden_7 is NaN or infinite"):
        train(settings)
    assert json.loads((settings.folder / "state" / "record.json").read_text())["record"]["step"] >= 1


def test_nan_in_the_loss_names_the_sample(config, monkeypatch):
    trainer = Trainer(config(save_every=1))
    original = trainer._losses

    def spoiled(batch):
        values, logits = original(batch)
        return torch.where(torch.arange(len(values)) == 3, float("nan"), values), logits

    trainer.accumulate(0)
    trainer.update(0)
    name = trainer.train_data.name(trainer.positions(1)[3])
    monkeypatch.setattr(trainer, "_losses", spoiled)
    with pytest.raises(RunError, match="step 1: the loss of .* is not finite; nothing was saved yet") as error:
        trainer.accumulate(1)
    assert name in str(error.value)


def test_one_class_only(config, tmp_path, write_set):
    folder = write_set(tmp_path / "bad")
    rows = [json.loads(line) | {"correct": True} for line in (folder / "labels.jsonl").read_text().splitlines()]
    (folder / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ConfigError, match="all 40 labels are yes"):
        train(config(data=[str(folder)]))


def test_missing_label_and_sample_without_features(config, tmp_path, write_set):
    folder = write_set(tmp_path / "bad")
    lines = (folder / "labels.jsonl").read_text().splitlines()
    (folder / "labels.jsonl").write_text("\n".join(lines[:-1]))
    with pytest.raises(ConfigError, match="1 samples without a label, first .*prompt 00109 candidate 3"):
        train(config(data=[str(folder)]))
    (folder / "labels.jsonl").write_text("\n".join([*lines, lines[0].replace('"prompt_id": 100', '"prompt_id": 7')]))
    with pytest.raises(ConfigError, match=r"labels.jsonl:41: prompt 7 candidate 0 has no features"):
        train(config(data=[str(folder)]))


def test_missing_shard_and_wrong_widths(config, tmp_path, write_set):
    folder = write_set(tmp_path / "bad")
    shard_path(folder, 2).unlink()
    with pytest.raises(ConfigError, match="1 of 3 shards are missing, first shard_00002.safetensors"):
        train(config(data=[str(folder)]))
    with pytest.raises(ConfigError, match="no feature 'hidden_9'; there is hidden_7, latent"):
        train(config(feature="hidden_9"))
    first = train(config(stage="align", captions=None, max_steps=1))
    with pytest.raises(CheckpointError, match="hidden"):
        train(config(name="latent", init=str(first.checkpoint), feature="latent"))


def test_too_small_a_set_and_too_long_a_prompt(config, language_model, tmp_path):
    with pytest.raises(ConfigError, match="batch_size: 512 samples a step, but there are only 64"):
        train(config(batch_size=512))
    short = tmp_path / "short"
    shutil.copytree(language_model, short)
    content = json.loads((short / "config.json").read_text()) | {"max_position_embeddings": 90}
    (short / "config.json").write_text(json.dumps(content))
    with pytest.raises(PromptError, match="the verifier takes 90"):
        Trainer(config(init=str(short)))


def test_a_state_of_another_training_is_refused(config):
    train(config(max_steps=2))
    with pytest.raises(RunError, match="learning_rate: 0.003, now 0.5"):
        train(config(max_steps=2, learning_rate=0.5, cont=True))
