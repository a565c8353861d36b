"""The arithmetic of Soft-TIFA, on numbers worked out by hand."""

from __future__ import annotations

import pytest

from vhs.errors import PromptError
from vhs.judges import soft_tifa
from vhs.judges.soft_tifa import Question, arithmetic_mean, geometric_mean, measures, questions_of

RECORD = {
    "prompt": "two red apples",
    "atom_count": 3,
    "vqa_list": [["How many apples are in the image?", "two"], ["Are the apples red?", "Yes"]],
    "skills": ["count", "attribute"],
}


def test_a_line_of_the_benchmark_becomes_questions_with_their_spellings() -> None:
    count, red = questions_of(RECORD, "here")
    assert count.asked == "How many apples are in the image? Answer in one word."
    assert count.spellings == ("two", "Two", " two", " Two", "2", " 2")
    assert red == Question("Are the apples red?", "Yes", "attribute") and len(red.spellings) == 4


def test_means() -> None:
    assert arithmetic_mean([0.25, 1.0]) == 0.625 and geometric_mean([0.25, 1.0]) == 0.5
    assert geometric_mean([0.0, 1.0]) == 0.0
    assert geometric_mean([1e-200] * 3) == pytest.approx(1e-200, rel=1e-12)


def test_every_question_counts_in_its_skill_and_every_picture_in_its_atomicity() -> None:
    record = {**RECORD, "skills": ["object", "object"]}
    assert measures(record, [0.25, 1.0]) == {
        "Soft-TIFA GM": [("3 atoms", 0.5)],
        "Soft-TIFA AM": [("3 atoms", 0.625)],
        "Soft-TIFA AM by skill": [("object", 0.25), ("object", 1.0)],
    }
    assert measures(RECORD, [0.25, 1.0])["Soft-TIFA AM by skill"] == [("attribute", 1.0), ("count", 0.25)]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"vqa_list": []}, "f:3: no questions (vqa_list), which geneval2 judges by; geneval2_data.jsonl of "),
        ({"vqa_list": ["Are there any?"]}, "f:3: vqa_list is a list of [question, answer]"),
        ({"skills": ["count"]}, "f:3: skills is a list with one skill for each of the 2 questions"),
        ({"atom_count": "3"}, "f:3: atom_count is '3'; a whole number"),
        ({"vqa_list": [["Is it red?", "No"], ["How many?", "two"]]}, "f:3: answer 'No'; 'Yes' or a number word"),
    ],
)
def test_what_is_wrong_with_a_line_is_one_sentence(change, message) -> None:
    with pytest.raises(PromptError) as error:
        questions_of({**RECORD, **change}, "f:3")
    assert str(error.value).startswith(message)


def test_the_data_are_named_with_their_licence() -> None:
    assert "facebookresearch/GenEval2" in soft_tifa.DATA and "CC BY-NC 4.0" in soft_tifa.DATA
