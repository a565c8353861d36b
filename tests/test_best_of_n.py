"""The method on one prompt, with the golden's real generator and verifiers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vhs import BestOfN
from vhs.config.run import RunConfig
from vhs.errors import ConfigError, RunError
from vhs.generators.sana_sprint import SanaSprint
from vhs.records import Prompt, Score
from vhs.seeding import PublishedNoise, candidate_seed
from vhs.verifiers import RandomVerifier, load_verifier

GOLDEN_D = Path(__file__).parent / "goldens" / "D"
TEXT = "a photo of a red circle and a blue star"
CASES = json.loads((GOLDEN_D / "cases.json").read_text())


@pytest.fixture(scope="module")
def generator() -> SanaSprint:
    return SanaSprint.from_pretrained(GOLDEN_D / "sana-sprint-tiny", image_width=64, image_height=64)


@pytest.fixture(scope="module")
def verifier():
    return load_verifier(
        GOLDEN_D / "vhs-tiny-hidden",
        "hidden_7",
        GOLDEN_D / "block_7_mean_bf16.pt",
        GOLDEN_D / "block_7_variance_bf16.pt",
        use_generation_prompt=False,
        resize_vocabulary=True,
    )


class Brightness:
    """Scores N latents or pictures by their mean: enough to see which stages run and who wins."""

    block = width = micro_batch = None

    def __init__(self, reads: str) -> None:
        self.reads = reads
        self.seen: list[int] = []

    def score(self, prompt: str, features: Any) -> Score:
        self.seen.append(len(features))
        values = [float(np.asarray(one, dtype=np.float32).mean()) for one in features]
        p = torch.sigmoid(torch.tensor(values, dtype=torch.float32) / 100)
        return Score(p, 1 - p, p > 0, p)


@pytest.fixture
def passes(generator: SanaSprint) -> Iterator[dict[str, int]]:
    """How many samples went through the text encoder, each transformer block, and the decoder."""
    counts: dict[str, int] = {}
    modules = {"text": generator.pipeline.text_encoder, "decoder": generator.pipeline.vae.decoder}
    modules |= {f"block {i}": block for i, block in enumerate(generator.transformer.transformer_blocks)}
    handles = []
    for name, module in modules.items():

        def count(module: Any, inputs: tuple, named: dict, name: str = name) -> None:
            first = inputs[0] if inputs else named.get("input_ids")
            counts[name] = counts.get(name, 0) + len(first)

        handles.append(module.register_forward_pre_hook(count, with_kwargs=True))
    yield counts
    for handle in handles:
        handle.remove()


def test_a_prod_prompt_runs_each_stage_for_as_few_as_it_can(generator, verifier, passes, monkeypatch) -> None:
    for model in (generator, verifier):
        monkeypatch.setattr(model, "micro_batch", 4)
    BestOfN(generator, verifier, num_samples=6)(TEXT)
    blocks = {f"block {i}": 6 if i <= 7 else 1 for i in range(10)}
    assert passes == {"text": 1, "decoder": 1, **blocks}


def test_a_dev_prompt_finishes_and_decodes_every_candidate_once(generator, verifier, passes) -> None:
    BestOfN(generator, verifier, num_samples=6, mode="dev")(TEXT)
    assert passes == {"text": 1, "decoder": 6, **{f"block {i}": 6 for i in range(10)}}


@pytest.mark.parametrize(
    ("reads", "expected"),
    [
        ("latent", {"block 0": 5, "block 9": 5, "decoder": 1}),
        ("image", {"block 0": 5, "block 9": 5, "decoder": 5}),
        ("nothing", {"block 0": 1, "block 9": 1, "decoder": 1}),
    ],
)
def test_no_stage_runs_that_nobody_reads(generator, passes, reads: str, expected: dict[str, int], monkeypatch) -> None:
    judge = RandomVerifier(1) if reads == "nothing" else Brightness(reads)
    monkeypatch.setattr(generator, "micro_batch", 2)
    result = BestOfN(generator, judge, num_samples=5)(TEXT)
    assert {key: passes[key] for key in expected} == expected and list(result.images) == [result.best_index]


@pytest.mark.parametrize("reads", ["hidden", "latent", "image", "nothing"])
def test_both_modes_have_the_same_winner_and_its_picture(generator, verifier, reads: str) -> None:
    judge = {"hidden": verifier, "nothing": RandomVerifier(1)}.get(reads) or Brightness(reads)
    prod, dev = (BestOfN(generator, judge, num_samples=5, mode=mode)(TEXT) for mode in ("prod", "dev"))
    assert prod.best_index == dev.best_index and prod.scores == dev.scores and len(dev.images) == 5
    apart = np.abs(np.asarray(prod.image, dtype=int) - np.asarray(dev.image, dtype=int))
    assert apart.max() <= 1


def test_the_release_s_choices_and_scores_are_reproduced(generator, verifier) -> None:
    """Golden D, one step, generator in float32: the published noise gives the published winners."""
    prompts = [Prompt(i, text) for i, text in enumerate(CASES["steps1"]["prompts"])]
    noise = PublishedNoise(42, 4, len(prompts), generator.info.latent_shape)
    best = BestOfN(generator, verifier, num_samples=4)
    for choice in CASES["steps1"]["chosen"]:
        number = choice["prompt_index"]
        result = best(prompts[number], noise=lambda prompt, count: noise.noise(prompt.id))
        assert result.best_index == choice["prod"]
        assert result.scores == pytest.approx(CASES["fp32_generator"]["scores"][number], abs=0.04)


def test_micro_batches_and_other_candidates_change_no_score_but_by_rounding(generator, verifier, monkeypatch) -> None:
    whole = BestOfN(generator, verifier, num_samples=6)(TEXT).scores
    for model in (generator, verifier):
        monkeypatch.setattr(model, "micro_batch", 1)
    parts = BestOfN(generator, verifier, num_samples=4)(TEXT).scores
    assert parts == pytest.approx(whole[:4], abs=1e-5)


def test_candidates_are_made_when_asked_for(generator, verifier, passes) -> None:
    result = BestOfN(generator, verifier, num_samples=3)(TEXT)
    assert passes["decoder"] == 1
    pictures = result.candidates
    assert len(pictures) == 3 and pictures[result.best_index] is result.image and passes["decoder"] == 4
    again = BestOfN(generator, verifier, num_samples=3)(TEXT, candidates=True)
    assert len(again.images) == 3
    for one, other in zip(pictures, again.candidates, strict=True):
        assert np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).max() <= 1


def test_seed_prompt_and_number_of_candidates_decide_the_noise(generator, verifier) -> None:
    best = BestOfN(generator, verifier, num_samples=2)
    first = best(TEXT).scores
    assert best(TEXT).scores == first and best(TEXT, num_samples=3).scores[:2] == pytest.approx(first, abs=1e-5)
    assert best(TEXT, seed=1).scores != first and best(Prompt(1, TEXT)).scores != first


@pytest.fixture(scope="module")
def alone(generator) -> list[np.ndarray]:
    """Pictures of prompt 7's candidates 0 to 2 under seed 5, each made by itself and whole."""
    [text] = generator.encode([TEXT])
    latents = [generator.generate(generator.noise([candidate_seed(5, 7, number)]), text) for number in range(3)]
    return [np.asarray(generator.decode(one)[0], dtype=int) for one in latents]


@pytest.mark.parametrize("mode", ["prod", "dev"])
@pytest.mark.parametrize("reads", ["hidden", "latent", "image", "nothing"])
def test_a_candidate_s_picture_is_that_of_its_own_noise(generator, verifier, alone, reads: str, mode: str) -> None:
    judge = {"hidden": verifier, "nothing": RandomVerifier(1)}.get(reads) or Brightness(reads)
    result = BestOfN(generator, judge, num_samples=3, seed=5, mode=mode, selection={"top_k": 2})(Prompt(7, TEXT))
    assert len(result.images) == (2 if mode == "prod" else 3)
    for number, picture in result.images.items():
        assert np.abs(np.asarray(picture, dtype=int) - alone[number]).max() <= 1, number


def test_without_a_verifier_the_first_candidate_wins(generator) -> None:
    result = BestOfN(generator, None, num_samples=2, mode="dev")(TEXT)
    assert (result.best_index, result.scores, len(result.images)) == (0, [], 2)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_score_that_is_not_finite_names_prompt_and_candidate(generator, value: float) -> None:
    class Broken(RandomVerifier):
        def score(self, prompt: str, features: int) -> Score:
            good = super().score(prompt, features)
            good.score[2] = value
            return good

    with pytest.raises(RunError, match=f"prompt 5 \\('a cat'\\): candidate 2 has score {value}"):
        BestOfN(generator, Broken(), num_samples=4)(Prompt(5, "a cat"))


def test_a_verifier_of_another_generator_is_refused(generator, verifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(verifier), "width", 64)
    with pytest.raises(ConfigError, match="width 64, the generator's have 48"):
        BestOfN(generator, verifier)
    monkeypatch.setattr(type(verifier), "blocks", (12,))
    with pytest.raises(ConfigError, match="block 12 is out of range; the generator has 10 blocks, 0 to 9"):
        BestOfN(generator, verifier)


def test_from_config_takes_a_file_or_a_configuration(run_keys, config_file) -> None:
    best = BestOfN.from_config(config_file({**run_keys, "generation_mode": "dev"}))
    result = best(TEXT, num_samples=3)
    assert len(result.scores) == 3 and result.image.size == (64, 64) and len(result.images) == 1
    same = BestOfN.from_config(RunConfig(**run_keys), {"num_samples": 3})(TEXT)
    assert same.scores == result.scores and same.best_index == result.best_index


def test_the_draw_among_yes_answers_replaces_the_scores_where_configured(generator, verifier) -> None:
    results = [
        BestOfN(generator, verifier, num_samples=4, selection="random_yes")(TEXT, seed=seed) for seed in range(3)
    ]
    for result in results:
        pool = [index for index, yes in enumerate(result.score.correct.tolist()) if yes] or list(range(4))
        assert result.best_index in pool and result.selection.tied == len(pool)


def test_a_list_of_prompts_gives_a_result_for_each_with_its_position_s_noise(generator, verifier) -> None:
    best = BestOfN(generator, verifier, num_samples=2)
    results = best([TEXT, Prompt(7, "a cat"), TEXT])
    assert [result.prompt.id for result in results] == [0, 7, 2]
    assert results[0].scores == best(TEXT).scores and results[2].scores == best(Prompt(2, TEXT)).scores


def test_a_result_shows_saves_and_ranks_its_candidates(generator, verifier, tmp_path: Path) -> None:
    result = BestOfN(generator, verifier, num_samples=3)(TEXT)
    assert repr(result) == (f"Result({TEXT!r}, candidate {result.best_index} of 3, score {max(result.scores):+.3f})")
    assert "2 candidates are not decoded" in result._repr_html_()
    assert len(list(result.save(tmp_path).glob("candidate_*.png"))) == 1
    (index, score, image), second = result.top(2)
    assert (index, score, image) == (result.best_index, max(result.scores), result.image) and second[1] <= score
    assert "not decoded" not in result._repr_html_() and len(list(result.save(tmp_path).glob("candidate_*.png"))) == 3
    assert len(result.plot().axes) == 3


@pytest.mark.parametrize(("part", "what"), [("transformer", "latents"), ("vae", "decoded pictures")])
def test_a_generator_of_nan_is_noticed_without_a_verifier(part: str, what: str) -> None:
    broken = SanaSprint.from_pretrained(GOLDEN_D / "sana-sprint-tiny", image_width=64, image_height=64)
    next(getattr(broken.pipeline, part).parameters()).data.fill_(float("nan"))
    with torch.no_grad():
        list(getattr(broken.pipeline, part).parameters())[-1].fill_(float("nan"))
    with pytest.raises(RunError, match=rf"prompt 5 \('a cat'\): .*{what}.* not finite; .*weights are damaged"):
        BestOfN(broken, None, num_samples=2, mode="dev")(Prompt(5, "a cat"))
