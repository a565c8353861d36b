import pytest

from vhs.errors import CheckpointError, PromptError
from vhs.verifiers.conversation import IMAGE_INDEX, build_inputs, chat_text, check_length, question, tokenize
from vhs.verifiers.language_model import load_tokenizer

from .conftest import TOKENIZER


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(TOKENIZER)


def test_question_holds_the_prompt_as_it_is():
    assert "The given prompt is: a {b} of 50% \\n. Please" in question("a {b} of 50% \\n")
    assert not question("x").endswith(".")


def test_halves_are_tokenised_separately(tokenizer):
    ids = tokenize(tokenizer, "the prompt. <image> The image")
    place = ids.index(IMAGE_INDEX)
    assert ids[:place] == tokenizer("the prompt. ").input_ids
    assert tokenizer.decode(ids[place - 1 : place]) == " "
    assert ids[place + 1 :] == tokenizer(" The image").input_ids


def test_generation_prompt_adds_an_empty_assistant_turn(tokenizer):
    without, with_turn = (chat_text(tokenizer, "hello", flag) for flag in (False, True))
    assert without.endswith("<|im_end|>\n<|im_start|>assistant\n")
    assert with_turn == without + "<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize("token", ["<image>", "<|im_end|>", "<|im_start|>", "<|vision_pad|>"])
def test_control_tokens_in_a_prompt_are_refused(tokenizer, token):
    with pytest.raises(PromptError, match="which the verifier reads as a control token; remove it") as error:
        build_inputs(tokenizer, f"a bench {token} and a cow")
    assert token in str(error.value) and "\n" not in str(error.value)


def test_one_image_place_whatever_the_prompt(tokenizer):
    for prompt in ("", "<img>", "< image >", "image", 'Una "foto"\nyes'):
        assert build_inputs(tokenizer, prompt).count(IMAGE_INDEX) == 1


def test_length_counts_the_picture_and_not_its_place():
    check_length([1, IMAGE_INDEX, 2], image_tokens=8, limit=10, prompt="x")
    with pytest.raises(PromptError, match="10 tokens with the picture's 8, the verifier takes 9; shorten it by 1"):
        check_length([1, IMAGE_INDEX, 2], image_tokens=8, limit=9, prompt="x" * 200)


def test_missing_chat_template_is_named(tokenizer):
    template, tokenizer.chat_template = tokenizer.chat_template, None
    try:
        with pytest.raises(CheckpointError, match="has no chat_template"):
            chat_text(tokenizer, "hello")
    finally:
        tokenizer.chat_template = template
