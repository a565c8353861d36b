"""Judging a verifier: scores are the verifier's own, shuffled features say nothing, figures are those of metrics."""

import json
import shutil

import numpy as np
import pytest
import torch

from vhs.errors import CheckpointError, ConfigError
from vhs.training.commands import run_evaluate
from vhs.training.config import EvaluateConfig
from vhs.training.data.store import CollectedSet
from vhs.training.evaluation import Rows, figures, score_sets, table
from vhs.training.trainer import train
from vhs.verifiers.load import load_verifier


@pytest.fixture(scope="module")
def trained(config_in, tmp_path_factory):
    """A verifier that reads the verdict off the features."""
    settings = {"loss": "cross_entropy", "epochs": 14, "eval_fraction": 0, "save_every": 1000}
    return train(config_in(tmp_path_factory.mktemp("trained"), **settings)).checkpoint


def settings(collected, trained, tmp_path, **changes) -> EvaluateConfig:
    values = {
        "verifier": str(trained),
        "data": [str(collected)],
        "output": str(tmp_path / "found.json"),
        "best_of": [1, 2, 4],
        "resamples": 200,
        "device": "cpu",
    }
    return EvaluateConfig(**(values | changes))


def test_a_verifier_that_knows_is_found_to_know(collected, trained, tmp_path):
    done = run_evaluate(settings(collected, trained, tmp_path), say=print)
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["within_prompt_auc"]["mean"] > 0.95 and found["accuracy"] > 0.9 and found["candidates"] == 80
    assert found["best_of"][2]["verifier"]["mean"] > 0.95 and found["best_of"][0]["verifier"]["mean"] == 0.5
    assert "AUC within a prompt" in done.line() and "gain over one" in done.line()
    assert sum(found["histogram"]["right"]) == 40 and found["by_tag"]["single_object"]["oracle_of_4"] == 1.0


def test_a_choice_has_each_verifiers_own_figures(collected, trained, tmp_path):
    keys = {"verifier": None, "output": str(tmp_path / "choice.json"), "verifiers": {"hidden_7": str(trained)}}
    done = run_evaluate(settings(collected, trained, tmp_path, **keys), say=print)
    found = json.loads((tmp_path / "choice.json").read_text())
    assert found["chosen"] == found["best"] == "hidden_7" and found["features"][0]["behind"]["mean"] == 0
    assert "hidden_7 is the cheapest within 1 points of hidden_7" in done.line()
    alone = run_evaluate(settings(collected, trained, tmp_path), say=print).figures
    assert found["features"][0]["best_of"] == alone["best_of"]


def test_scores_are_the_verifiers_own(collected, trained):
    data = CollectedSet(collected)
    verifier = load_verifier(trained, use_generation_prompt=False)
    rows = score_sets(verifier, [data], "hidden_7", limit=3)
    assert rows.groups == [(0, p) for p in range(3) for _ in range(4)]
    expected = verifier.score(data.prompt(9).text, data.gather("hidden_7", [9]))
    assert rows.scores[9] == pytest.approx(expected.score.item(), abs=1e-6)
    assert rows.verdicts.tolist() == [(p + c) % 2 == 0 for p in range(3) for c in range(4)]


def test_shuffled_features_are_those_of_other_prompts(collected, trained, tmp_path, write_set):
    """Every prompt's verdicts alternate, half of them in the other phase: shuffled, the AUC is about a half."""
    folder = write_set(tmp_path / "many", prompts=60, candidates=4, seed=3)
    verifier = load_verifier(trained, use_generation_prompt=False)
    straight = score_sets(verifier, [CollectedSet(folder)], "hidden_7")
    shuffled = score_sets(verifier, [CollectedSet(folder)], "hidden_7", shuffle=True)

    def auc(rows: Rows) -> float:
        return figures(rows, [1], resamples=100)["within_prompt_auc"]["mean"]

    assert auc(straight) > 0.95 and 0.25 < auc(shuffled) < 0.75


def test_random_yes_does_not_see_the_score():
    """Two candidates say yes, the better-scored one is right: argmax always finds it, random yes half of the time."""
    prompts = 400
    rows = Rows(
        groups=[(0, p) for p in range(prompts) for _ in range(3)],
        texts=[str(p) for p in range(prompts) for _ in range(3)],
        tags=["colors"] * 3 * prompts,
        scores=np.tile([0.9, 0.6, -0.9], prompts),
        p_yes=np.tile([0.9, 0.6, 0.1], prompts),
        p_no=np.tile([0.1, 0.4, 0.9], prompts),
        says_yes=np.tile([True, True, False], prompts),
        verdicts=np.tile([True, False, False], prompts),
    )
    assert figures(rows, [3], resamples=100)["best_of"][0]["verifier"]["mean"] == 1.0
    assert figures(rows, [3], selection="random_yes", resamples=100)["best_of"][0]["verifier"]["mean"] == pytest.approx(
        0.5, abs=0.08
    )
    assert table(figures(rows, [1, 3], resamples=100)).count("\n") == 6
    with pytest.raises(ConfigError, match="best_of: 4 is more than the 3 candidates"):
        figures(rows, [4])


def test_captions_are_what_stage_one_learned(config, collected, tmp_path):
    """Trained on one caption for all, the connector makes the frozen LLM say it, and stop."""
    lines = [
        json.dumps({"prompt_id": 100 + p, "candidate": c, "caption": "a cat"}) for p in range(20) for c in range(4)
    ]
    (collected / "same.jsonl").write_text("\n".join(lines))
    result = train(
        config(
            stage="align",
            captions="same.jsonl",
            epochs=60,
            learning_rate=2e-2,
            eval_fraction=0,
            save_every=1000,
            question="<image> Describe the image.",
        )
    )
    say: list[str] = []
    settings_ = settings(
        collected,
        result.checkpoint,
        tmp_path,
        task="captions",
        question="<image> Describe the image.",
        output=str(tmp_path / "captions.jsonl"),
        limit=3,
        max_tokens=12,
    )
    run_evaluate(settings_, say=say.append)
    rows = [json.loads(line) for line in (tmp_path / "captions.jsonl").read_text().splitlines()]
    assert (
        [row["caption"] for row in rows] == ["a cat"] * 3
        and rows[0]["prompt"] == "a photo of a bench"
        and len(say) == 3
    )


@pytest.mark.parametrize("verdict", [True, False])
def test_labels_of_one_kind_leave_out_what_they_cannot_say(collected, trained, tmp_path, verdict: bool):
    rows = [json.loads(line) | {"correct": verdict} for line in (collected / "labels.jsonl").read_text().splitlines()]
    (collected / "one.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run_evaluate(settings(collected, trained, tmp_path, labels="one.jsonl"), say=print)
    assert done.figures["within_prompt_auc"]["mean"] is None and done.figures["pooled_auc"] is None
    assert done.figures["right"] == verdict and done.figures["best_of"][0]["verifier"]["mean"] == verdict
    assert "AUC within a prompt - [-, -] over 0 prompts" in done.line()


def test_captions_in_the_plain_form(collected, trained, tmp_path):
    """A picture alone, without a question: what stage 1 is trained on by default."""
    keys = settings(collected, trained, tmp_path, task="captions", output=str(tmp_path / "c.jsonl"), limit=2)
    assert run_evaluate(keys, say=print).count == 2


def test_a_verifier_of_something_else_is_refused(collected, trained, tmp_path):
    with pytest.raises(CheckpointError, match="hidden"):
        run_evaluate(settings(collected, trained, tmp_path, feature="latent"), say=print)
    with pytest.raises(ConfigError, match="no feature 'hidden_9'"):
        run_evaluate(settings(collected, trained, tmp_path, feature="hidden_9"), say=print)
    assert not torch.is_grad_enabled() or not (tmp_path / "found.json").exists()


def test_candidates_without_a_verdict_are_left_out(collected, trained, tmp_path):
    """Somebody's own verdicts on prompts that GenEval cannot judge: the last candidate of each has none."""
    folder = shutil.copytree(collected, tmp_path / "own")
    prompts = [json.loads(line) | {"metadata": None} for line in (folder / "prompts.jsonl").read_text().splitlines()]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts))
    rows = map(json.loads, (folder / "labels.jsonl").read_text().splitlines())
    (folder / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows if row["candidate"] != 3))
    verifier = load_verifier(trained, use_generation_prompt=False)
    all_of_them = score_sets(verifier, [CollectedSet(collected)], "hidden_7", limit=5)
    rest = score_sets(verifier, [CollectedSet(folder)], "hidden_7", limit=5)
    kept = [row for row in range(20) if row % 4 != 3]
    np.testing.assert_allclose(rest.scores, all_of_them.scores[kept], atol=1e-5)
    assert rest.verdicts.tolist() == all_of_them.verdicts[kept].tolist()
    with pytest.raises(ConfigError, match="best_of: 4 is more than the 3 candidates per prompt"):
        run_evaluate(settings(folder, trained, tmp_path), say=print)


@pytest.mark.parametrize("keys", [{}, {"verifier": None, "verifiers": {"hidden_7": "nowhere"}}])
def test_too_few_candidates_are_said_before_a_verifier_is_read(collected, tmp_path, keys):
    with pytest.raises(ConfigError, match="best_of: 8 is more than the 4 candidates per prompt"):
        run_evaluate(settings(collected, "nowhere", tmp_path, best_of=[8], **keys), say=print)
