"""Soft-TIFA and VQAScore on a tiny random Qwen3-VL, against greedy generation of one answer at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import gmean

from tests import vlms
from vhs.judges.vlm import SoftTifaJudge, VqaScoreJudge
from vhs.verifiers.vlm import VisionLanguageModel

RECORDS = [
    {
        "prompt": "two red apples above a dog",
        "atom_count": 4,
        "vqa_list": [
            ["How many apples are in the image?", "two"],
            ["Are the apples red?", "Yes"],
            ["Are the apples above the dog?", "Yes"],
            ["How many dogs are in the image?", "one"],
        ],
        "skills": ["count", "attribute", "position", "count"],
    },
    {"prompt": "a cat", "atom_count": 3, "vqa_list": [["Is there a cat?", "Yes"]], "skills": ["object"]},
]
ACCEPTED = {
    "two": ["two", "Two", " two", " Two", "2", " 2"],
    "one": ["one", "One", " one", " One", "1", " 1"],
    "Yes": ["Yes", "yes", " yes", " Yes"],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> VisionLanguageModel:
    return VisionLanguageModel.load(vlms.save_qwen3_vl(tmp_path_factory.mktemp("qwen3_vl")))


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    return vlms.pictures((64, 64), (48, 80))


def by_generation(model: VisionLanguageModel, picture: Image.Image, text: str, accepted: list[str]) -> float:
    """The official evaluation's way: one question a call, one new token, greedy, every spelling's first token added."""
    made = model.model.generate(
        **vlms.asked(model, picture, text),
        max_new_tokens=1,
        do_sample=False,
        output_scores=True,
        return_dict_in_generate=True,
    )
    probabilities = torch.softmax(made.scores[0], dim=-1)[0]
    return sum(probabilities[model.processor.tokenizer.encode(spelling)[0]].item() for spelling in accepted)


def test_soft_tifa_equals_one_greedy_answer_at_a_time(model, pictures) -> None:
    judged = SoftTifaJudge(model).judge_batch(pictures, RECORDS)
    for picture, record, found in zip(pictures, RECORDS, judged, strict=True):
        wanted = [
            by_generation(model, picture, f"{question} Answer in one word.", ACCEPTED[answer])
            for question, answer in record["vqa_list"]
        ]
        fields = found.fields()
        np.testing.assert_allclose(fields["atoms"], wanted, rtol=0, atol=1e-5)
        assert min(wanted) > 1e-4, "probabilities far above the tolerance"
        assert fields["am"] == pytest.approx(np.mean(fields["atoms"]), rel=1e-12)
        assert fields["score"] == pytest.approx(gmean(fields["atoms"]), rel=1e-12)
        assert fields["am"] == pytest.approx(np.mean(wanted), abs=1e-5)
        assert fields["score"] == pytest.approx(gmean(wanted), abs=1e-5)


def test_a_token_that_two_spellings_begin_with_counts_twice(model, pictures) -> None:
    """The tokenizer has no "one": its letters are tokens, and " one" and " One" both begin with a blank."""
    once = by_generation(model, pictures[0], "How many dogs are in the image? Answer in one word.", [" "])
    record = {**RECORDS[1], "vqa_list": [["How many dogs are in the image?", "one"]]}
    both = SoftTifaJudge(model).judge_batch(pictures[:1], [record])[0].score
    others = by_generation(
        model, pictures[0], "How many dogs are in the image? Answer in one word.", ["one", "One", "1"]
    )
    assert both == pytest.approx(others + 3 * once, abs=1e-6) and once > 1e-4


def test_vqa_score_is_the_probability_of_yes(model, pictures) -> None:
    records = [{"prompt": "a cat"}, {"prompt": "two dogs"}]
    judged = VqaScoreJudge(model).judge_batch(pictures, records)
    for picture, record, found in zip(pictures, records, judged, strict=True):
        text = f'Does this image show "{record["prompt"]}"? Answer the question with Yes or No.'
        assert found.fields() == {
            "score": pytest.approx(by_generation(model, picture, text, ACCEPTED["Yes"]), abs=1e-5)
        }
