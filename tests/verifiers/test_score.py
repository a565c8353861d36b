import pytest
import torch

from vhs.records import Score
from vhs.verifiers.language_model import load_tokenizer
from vhs.verifiers.score import answer_ids, says_yes, score_logits

from .conftest import TOKENIZER


def test_score_by_hand():
    logits = torch.log(torch.tensor([[0.5, 0.2, 0.3], [0.2, 0.5, 0.3], [0.2, 0.3, 0.5]]))
    score = score_logits(logits, yes=0, no=1, affirms=lambda token: token == 0)
    torch.testing.assert_close(score.score, torch.tensor([0.5, -0.5, -0.3]))
    torch.testing.assert_close(score.p_no, torch.tensor([0.2, 0.5, 0.3]))
    assert score.correct.tolist() == [True, False, False]


def test_another_token_that_says_yes_counts_as_yes():
    logits = torch.log(torch.tensor([[0.1, 0.2, 0.7]]))
    score = score_logits(logits, yes=0, no=1, affirms=lambda token: token == 2)
    assert score.correct.item() and score.score.item() == pytest.approx(0.1)


def test_softmax_is_float32_whatever_the_logits():
    logits = torch.randn(2, 50).bfloat16()
    score = score_logits(logits, 3, 4, lambda token: False)
    torch.testing.assert_close(score.p_yes, logits.float().softmax(-1)[:, 3], atol=0, rtol=0)


class Marked:
    """A tokenizer that puts token 9 before a text, and whose token 8 is a mark that says yes but is no word."""

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [9] * add_special_tokens + [{"yes": 3, "no": 4}[text], 5]

    def decode(self, tokens: list[int], skip_special_tokens: bool = False) -> str:
        return {3: "YES", 4: "no", 8: "" if skip_special_tokens else "<yes>"}[tokens[0]]


def test_marks_of_the_tokenizer_are_no_answers():
    assert answer_ids(Marked()) == (3, 4)
    assert [says_yes(Marked())(token) for token in (3, 4, 8)] == [True, False, False]


def test_a_temperature_divides_the_log_odds_of_the_two_answers():
    logits = torch.tensor([[3.0, 1.0, 9.0], [0.0, 2.0, -9.0]])
    score = score_logits(logits, 0, 1, lambda token: token == 2, temperature=4.0)
    p_yes = torch.sigmoid(torch.tensor([0.5, -0.5]))
    torch.testing.assert_close(score.p_yes, p_yes)
    torch.testing.assert_close(score.p_no, 1 - p_yes)
    torch.testing.assert_close(score.score, torch.stack([p_yes[0], p_yes[1] - 1]))
    assert score.correct.tolist() == [True, False]


def test_no_candidates_have_no_scores():
    score = score_logits(torch.zeros(0, 5), 0, 1, lambda token: True)
    assert len(score) == 0 and score.correct.dtype == torch.bool


def test_words_of_the_tokenizer():
    tokenizer = load_tokenizer(TOKENIZER)
    affirms = says_yes(tokenizer)
    assert answer_ids(tokenizer) == (260, 259)
    found = {token for token in range(592) if affirms(token)}
    words = {tokenizer.decode([token]) for token in found}
    assert {"yes", "Yes", " yes"} <= words and "no" not in words


def test_parts_are_joined_in_order():
    parts = [score_logits(torch.randn(n, 5), 0, 1, lambda t: t == 0) for n in (2, 3)]
    whole = Score.cat(parts)
    assert torch.equal(whole.score, torch.cat([parts[0].score, parts[1].score])) and whole.correct.dtype == torch.bool


def test_scores_without_answers_are_joined_too():
    whole = Score.cat([Score.plain([1, 2]), Score.plain(torch.tensor([3.0], dtype=torch.float64))])
    assert whole.score.tolist() == [1, 2, 3] and whole.score.dtype == torch.float32 and len(whole) == 3
    assert whole.p_yes is None and whole.p_no is None and whole.correct is None
