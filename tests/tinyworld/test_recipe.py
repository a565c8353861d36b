"""The recipe's loop goes on from where it stopped, refuses a loss that is not finite, and its data follow the step."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from vhs.records import Detection
from vhs.tinyworld import candidates, language_model, recipe, student, text_encoder, word_grid
from vhs.tinyworld.scenes import (
    COLORS,
    HELD_OUT_PAIRS,
    SHAPES,
    Scene,
    caption_record,
    held_out,
    make_scene,
    sample_scene,
    true_verdict,
)
from vhs.tinyworld.worlds import SANA


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "WORK", tmp_path)
    return tmp_path


def _linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(4, 2)


def _loss_of(module):
    def loss(step):
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        return module(x).square().mean()

    return loss


def _train(module, steps, **options):
    return recipe.train("stage", module, _loss_of(module), steps=steps, peak=1e-2, warmup=2, average=0.9, **options)


def test_an_interrupted_stage_ends_where_an_uninterrupted_one_does(work, monkeypatch):
    whole = _train(_linear(), 8)
    (work / "stage" / "state.pt").unlink()

    class Stop(Exception):
        pass

    stopped = _linear()
    loss_of = _loss_of(stopped)

    def until_five(step):
        if step == 5:
            raise Stop
        return loss_of(step)

    with pytest.raises(Stop):
        recipe.train("stage", stopped, until_five, steps=8, peak=1e-2, warmup=2, average=0.9, save_every_s=0)
    resumed = _train(_linear(), 8)
    assert torch.equal(resumed.weight, whole.weight) and torch.equal(resumed.bias, whole.bias)


def _convolutions() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 6, 1), nn.Conv2d(6, 6, 3, padding=1), nn.Flatten(), nn.Linear(54, 2))


def _image_loss(module):
    return lambda step: module(torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(step))).square().mean()


def test_muon_trains_matrices_and_1x1_convolutions_and_resumes_bit_for_bit(work):
    def train(module, steps):
        muon = recipe.matrices_of(module)
        assert [p.shape for p in muon] == [(6, 4, 1, 1), (2, 54)]
        return recipe.train(
            "stage", module, _image_loss(module), steps=steps, peak=1e-2, warmup=2, muon=muon, weight_decay=0
        )

    start = _convolutions()
    whole = train(_convolutions(), 6)
    change = (whole[0].weight - start[0].weight).detach().flatten(1)
    assert torch.linalg.svdvals(change).min() > 0.2 * torch.linalg.svdvals(change).max(), (
        "Muon's steps are near orthogonal"
    )
    (work / "stage" / "state.pt").unlink()

    halfway = _convolutions()
    loss = _image_loss(halfway)
    with pytest.raises(FloatingPointError):
        options = {"peak": 1e-2, "warmup": 2, "muon": recipe.matrices_of(halfway), "weight_decay": 0, "save_every_s": 0}
        recipe.train("stage", halfway, lambda step: loss(step) * (float("nan") if step == 3 else 1), steps=6, **options)
    resumed = train(_convolutions(), 6)
    assert all(torch.equal(a, b) for a, b in zip(resumed.parameters(), whole.parameters(), strict=True))


@pytest.mark.parametrize("fast", [True, False])
def test_muon_makes_the_steps_of_torchs_own(fast, monkeypatch):
    """Which rounds to bfloat16, and takes a matrix at a time: the two differ by that rounding."""
    monkeypatch.setattr(recipe, "has_bfloat16", lambda device: fast)
    options = {"lr": 0.1, "momentum": 0.95, "weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"}
    module = nn.Sequential(nn.Conv2d(4, 6, 1), nn.Conv2d(6, 4, 1), nn.Conv2d(4, 6, 1), nn.Conv2d(6, 3, 1))
    ours = recipe.matrices_of(module)
    torchs = [nn.Parameter(p.detach().flatten(1).clone()) for p in ours]
    starts = [p.detach().flatten(1).clone() for p in ours]
    for optimizer, params in ((recipe.Muon(ours, **options), ours), (torch.optim.Muon(torchs, **options), torchs)):
        draw = torch.Generator().manual_seed(1)
        for _ in range(3):
            for param in params:
                param.grad = torch.randn(param.shape, generator=draw)
            optimizer.step()
    for one, other, start in zip(ours, torchs, starts, strict=True):
        assert (one.flatten(1) - other).norm() < 0.03 * (other - start).norm()


def test_a_loss_that_is_not_finite_stops_and_keeps_the_saved_state(work):
    module = _linear()
    _train(module, 3)
    before = (work / "stage" / "state.pt").read_bytes()
    with pytest.raises(FloatingPointError, match="stage: loss is nan at step 3"):
        recipe.train("stage", module, lambda step: module.weight.sum() * float("nan"), steps=5, peak=1e-2, average=0.9)
    assert (work / "stage" / "state.pt").read_bytes() == before


def test_the_learning_rate_warms_up_and_falls_to_a_hundredth():
    rates = [recipe.learning_rate(step, 100, 1.0, 10) for step in range(101)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == pytest.approx(1.0) and rates[100] == pytest.approx(0.01)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_a_restart_is_the_same_curve_twice_and_none_where_training_ends_before_it():
    def rates(steps: int, restart: int | None) -> list[float]:
        return [recipe.learning_rate(step, steps, 1.0, 10, restart) for step in range(steps)]

    assert rates(160, 100) == rates(100, None) + rates(60, None)
    assert rates(100, 100) == rates(100, None) and rates(80, 100) == rates(80, None)


def test_training_scenes_follow_stage_and_step_and_stay_below_the_held_out_seeds():
    seeds = [scene.seed for scene in recipe.fresh_scenes("detector", 3, 4)]
    assert seeds == [scene.seed for scene in recipe.fresh_scenes("detector", 3, 4)]
    assert not set(seeds) & {scene.seed for scene in recipe.fresh_scenes("autoencoder", 3, 4)}
    assert max(seeds) < recipe.HELD_OUT_SEEDS


def test_the_students_captions_are_training_captions_and_its_noise_is_fixed():
    texts = student.captions_of_shard(2)
    assert texts == student.captions_of_shard(2) != student.captions_of_shard(3)
    assert torch.equal(student.noise_of_shard(1), student.noise_of_shard(1))
    assert not torch.equal(student.noise_of_shard(1), student.noise_of_shard(2))


def test_a_students_tokenizer_is_saved_without_how_the_shared_one_padded_last(tmp_path):
    text_encoder.tokenize(SANA.tokenizer(), ["a photo of a star"])
    shutil.copytree(SANA.folder / "vae", tmp_path / "vae")
    student.save(SANA.untrained(), replace(SANA, folder=tmp_path))
    saved = json.loads((tmp_path / "tokenizer" / "tokenizer.json").read_text())
    assert saved["padding"] is None and saved["truncation"] is None


def test_the_language_models_answers_are_genevals_and_never_about_held_out_combinations():
    tokenizer = language_model.qwen_tokenizer(language_model.corpus(50))
    answers = {"yes": 0, "no": 0}
    for seed in range(100):
        for text, is_answer in language_model.example(seed, tokenizer):
            if is_answer and text in answers:
                answers[text] += 1
    assert min(answers.values()) > 40
    for seed in range(200):
        rng = np.random.default_rng(seed)
        assert not held_out(language_model.asked_record(sample_scene(seed), rng))


def test_a_relation_is_asked_both_ways_of_the_same_scene():
    record = caption_record("position", ["star", "moon"], relation="left of")
    scene, rng = make_scene(record, seed=3), np.random.default_rng(0)
    asked = [language_model.order_record(scene, rng) for _ in range(40)]
    said = {r["prompt"][len("a photo of ") :]: true_verdict(r, scene).correct for r in asked if r is not None}
    assert said == {"a star left of a moon": True, "a moon left of a star": False,
                    "a moon right of a star": True, "a star right of a moon": False}  # fmt: skip
    assert language_model.order_record(make_scene(caption_record("single_object", ["star"]), seed=3), rng) is None


def test_where_a_shape_is_follows_its_name():
    scene = make_scene(caption_record("position", ["circle", "ring"], relation="left of"), seed=3)
    said = {language_model.whereabouts(scene, np.random.default_rng(seed)) for seed in range(20)}
    assert said == {("a photo of a circle", " middle left"), ("a photo of a ring", " middle right")}
    twice = make_scene(caption_record("counting", ["star"], count=2), seed=3)
    assert language_model.whereabouts(twice, np.random.default_rng(0))[1] in ("yes", "no")


def test_detections_are_said_in_the_language_models_words():
    seen = [Detection("star", 0.9, (4, 4, 20, 20)), Detection("ring", 0.8, (40, 42, 58, 60))]
    objects = list(zip(seen, ["red", "blue"], strict=True))
    said = {candidates.description(objects, np.random.default_rng(seed)) for seed in range(10)}
    assert said == {"a red star top left, a blue ring bottom right", "a blue ring bottom right, a red star top left"}
    assert candidates.description([], np.random.default_rng(0)) == "nothing"


def test_no_stage_says_a_held_out_pair():
    """Captions and descriptions of every stage; a picture of the generator's own that shows a pair is not described."""
    held = {f"{color} {shape}" for shape, color in HELD_OUT_PAIRS}
    tokenizer = language_model.qwen_tokenizer(language_model.corpus(50))
    texts = [text for shard in (0, 1000) for text in student.captions_of_shard(shard)]
    texts += [sample_scene(recipe.scene_seed("teacher", i)).caption for i in range(300)]
    texts += [text for seed in range(300) for text, _ in language_model.example(seed, tokenizer)]
    assert not [text for text in texts if any(pair in text for pair in held)]
    (shape, color), *_ = HELD_OUT_PAIRS
    seen = Detection(shape, 0.9, (4, 4, 20, 20))
    assert candidates.description([(seen, color)], np.random.default_rng(0)).endswith(f"{color} {shape} top left")
    assert not candidates.speakable([(seen, color)])
    free = next(name for name in COLORS if (shape, name) not in HELD_OUT_PAIRS)
    assert candidates.speakable([(seen, free)])


def test_other_prompts_are_training_captions_of_both_verdicts_and_ask_both_ways():
    said = {"true": 0, "false": 0}
    for seed in range(200):
        scene = sample_scene(seed)
        records = candidates.other_records(scene, np.random.default_rng(seed))
        prompts = [record["prompt"] for record in records]
        assert scene.caption not in prompts and len(set(prompts)) == len(prompts)
        assert not any(held_out(record) for record in records)
        for record in records:
            said["true" if true_verdict(record, scene).correct else "false"] += 1
        if len({obj.shape for obj in scene.objects}) > 1:
            assert records
    assert min(said.values()) > 0.25 * sum(said.values())
    assert candidates.other_records(Scene("a photo of a star", {}, (), (0, 0, 0), 0), np.random.default_rng(0)) == []


def test_of_several_of_a_shape_the_true_number_is_asked_and_another():
    record = caption_record("counting", ["star"], count=3)
    scene = make_scene(record, seed=3)
    asked = [candidates.numbers(scene, np.random.default_rng(seed)) for seed in range(20)]
    assert {records[0]["prompt"] for records in asked} == {"a photo of three stars"}
    assert {records[1]["prompt"] for records in asked} == {"a photo of two stars", "a photo of four stars"}
    prompts = {r["prompt"] for seed in range(20) for r in candidates.other_records(scene, np.random.default_rng(seed))}
    assert prompts >= {"a photo of two stars", "a photo of four stars"}, "the picture's own is asked already"
    one_each = make_scene(caption_record("two_object", ["star", "ring"]), seed=3)
    assert candidates.numbers(one_each, np.random.default_rng(0)) == []


def test_a_scene_drawn_with_words_says_its_objects_where_they_are():
    record = caption_record("position", ["star", "ring"], relation="left of")
    scene = make_scene(record, seed=3)
    words = ["star", "ring", *COLORS, "top", "middle", "bottom", "left", "center", "right", *SHAPES]
    cells = word_grid.draw(scene, words.index, np.random.default_rng(0))
    assert cells.ids.shape == cells.weights.shape == (64, word_grid.WORDS) and cells.weights.min() >= 0
    loudest = cells.weights[:, 2:].argmax(1)
    shown = [words[ids[2]] if weight > 0 else "" for ids, weight in zip(cells.ids, cells.weights[:, 2], strict=True)]
    columns = {shape: {i % 8 for i, seen in enumerate(shown) if seen == shape} for shape in ("star", "ring")}
    assert set(shown) == {"", "star", "ring"} and max(columns["star"]) < min(columns["ring"])
    assert (loudest < 2).all()  # an object never looks more like another shape
    place = [(words[ids[0]], words[ids[1]]) for ids in cells.ids]
    assert place[0] == ("top", "left") and place[63] == ("bottom", "right") and place[27] == ("middle", "center")


def test_a_drawing_stands_in_the_text_where_the_picture_does():
    """The language model's batch has 64 cells at `<image>`, never a target, and plain tokens elsewhere; text alone is
    embedded as by the model's own embedding."""
    tokenizer = language_model.qwen_tokenizer(language_model.corpus(50))
    ids, weights, targets = language_model.batch(0, tokenizer)
    cells = (weights[..., 0] != 1) & (weights.sum(-1) > 0)
    assert set(cells.sum(1).tolist()) == {0, 64}
    assert (targets[cells] == 0).all() and (targets == language_model.ANSWER_WEIGHT).any()
    assert (weights[~cells][:, 1:] == 0).all()
    model = language_model.build(tokenizer)
    embedded = word_grid.embed(model.get_input_embeddings(), ids, torch.eye(word_grid.WORDS)[0].expand(weights.shape))
    torch.testing.assert_close(embedded, model.get_input_embeddings()(ids[..., 0]))
