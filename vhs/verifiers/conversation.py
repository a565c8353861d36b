"""The question a verifier is asked, as text and as token ids (paper, Figure 10).

The text around the picture is split at `<image>` and the two halves are tokenised separately, without a BOS token: the
verifiers were trained on that layout, in which a lone space precedes the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vhs.checkpoints.boundary import loading
from vhs.errors import CheckpointError, PromptError

IMAGE_MARKER = "<image>"
IMAGE_INDEX = -200
"""Stands in a list of ids where the picture's features go; not an id of any vocabulary."""

_QUESTION = (
    "You are an AI assistant specializing in image analysis and ranking. Your task is to analyze and compare image "
    "based on how well they match the given prompt. <image> The given prompt is: {prompt}. Please consider the prompt "
    "and the image to make a decision and response directly with 'yes' or 'no'"
)


def question(prompt: str) -> str:
    """The user's message about `prompt`, with `<image>` where the picture goes."""
    return _QUESTION.format(prompt=prompt)


def check_prompt(tokenizer: Any, prompt: str) -> None:
    """Refuses a prompt that would change the layout of the conversation.

    Raises:
        PromptError: the prompt contains `<image>` or one of the tokenizer's special tokens, such as `<|im_end|>`.
    """
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    special = [IMAGE_MARKER, *tokenizer.all_special_tokens, *(token.content for token in added if token.special)]
    found = next((token for token in special if token and token in prompt), None)
    if found is not None:
        raise PromptError(
            f"prompt {_short(prompt)}: contains {found!r}, which the verifier reads as a control token; remove it"
        )


def chat_text(tokenizer: Any, message: str, use_generation_prompt: bool = True) -> str:
    """`message` inside the tokenizer's chat template, ending where the assistant's answer begins.

    `use_generation_prompt` is the release's key: true puts an empty assistant turn before that place.

    Raises:
        CheckpointError: the tokenizer has no chat template, or one that cannot be used.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise CheckpointError(
            f"{tokenizer.name_or_path}: the tokenizer has no chat_template; use the verifier's own tokenizer files"
        )
    turns = [{"role": "user", "content": message}]
    if use_generation_prompt:
        turns.append({"role": "assistant", "content": ""})
    with loading("chat template", tokenizer.name_or_path):
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        text.encode()  # half of a character is no text
    if text.count(IMAGE_MARKER) != message.count(IMAGE_MARKER):
        raise CheckpointError(f"{tokenizer.name_or_path}: the chat template does not keep the message; use another one")
    return text


def tokenize(tokenizer: Any, text: str) -> list[int]:
    """Ids of `text`, the parts between `<image>` markers tokenised separately and joined by `IMAGE_INDEX`."""
    ids: list[int] = []
    for position, part in enumerate(text.split(IMAGE_MARKER)):
        if position:
            ids.append(IMAGE_INDEX)
        ids.extend(tokenizer(part, add_special_tokens=False).input_ids)
    return ids


def build_inputs(tokenizer: Any, prompt: str, use_generation_prompt: bool = True) -> list[int]:
    """Ids of the whole question about `prompt`, with one `IMAGE_INDEX`; the answer is the token that follows.

    Raises:
        PromptError: see `check_prompt`.
        CheckpointError: see `chat_text`.
    """
    check_prompt(tokenizer, prompt)
    return tokenize(tokenizer, chat_text(tokenizer, question(prompt), use_generation_prompt))


def check_length(ids: Sequence[int], image_tokens: int, limit: int, prompt: str) -> None:
    """Refuses a prompt that does not fit; cutting it would cut the place of the answer.

    Raises:
        PromptError: text and picture together are longer than `limit` tokens.
    """
    length = len(ids) - 1 + image_tokens
    if length > limit:
        raise PromptError(
            f"prompt {_short(prompt)}: {length} tokens with the picture's {image_tokens}, the verifier takes {limit}; "
            f"shorten it by {length - limit} tokens"
        )


def _short(prompt: str, limit: int = 60) -> str:
    return repr(prompt if len(prompt) <= limit else prompt[: limit - 3] + "...")
