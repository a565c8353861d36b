"""transformers' instruction models as functions: texts to answers, pictures to captions, pairs to CLIP-Scores."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vhs.checkpoints.boundary import loading, quiet
from vhs.checkpoints.bounds import check_tokenizer_sizes, read_config
from vhs.errors import CheckpointError

if TYPE_CHECKING:
    from PIL.Image import Image

CLIP_SCORE_WEIGHT = 2.5
"""CLIPScore (Hessel et al., 2021) is 2.5 max(cos, 0); as a percentage it is 250 max(cos, 0)."""


class TextModel:
    """A causal LM with a chat template, decoding greedily."""

    def __init__(self, model: Any, tokenizer: Any, max_tokens: int = 256, batch: int = 16) -> None:
        self.model, self.tokenizer, self.max_tokens, self.batch = model.eval(), tokenizer, max_tokens, batch
        tokenizer.padding_side = "left"  # generation goes on from the last position of each row
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token

    @torch.no_grad()
    def __call__(self, messages: Sequence[str]) -> list[str]:
        """One answer per message."""
        said: list[str] = []
        for start in range(0, len(messages), self.batch):
            texts = [self._chat(message) for message in messages[start : start + self.batch]]
            inputs = self.tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
            inputs = inputs.to(self.model.device)
            made = self.model.generate(
                **inputs,
                max_new_tokens=self.max_tokens,
                do_sample=False,
                num_beams=1,
                pad_token_id=self.tokenizer.pad_token_id,
            )
            said += self.tokenizer.batch_decode(made[:, inputs.input_ids.shape[1] :], skip_special_tokens=True)
        return said

    def _chat(self, message: str) -> str:
        turns = [{"role": "user", "content": message}]
        return self.tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )


class PictureModel:
    """An image-text-to-text model with a chat template, decoding greedily."""

    def __init__(self, model: Any, processor: Any, max_tokens: int = 96) -> None:
        self.model, self.processor, self.max_tokens = model.eval(), processor, max_tokens
        processor.tokenizer.padding_side = "left"
        if processor.tokenizer.pad_token is None:
            processor.tokenizer.pad_token = processor.tokenizer.eos_token

    @torch.no_grad()
    def __call__(self, pictures: Sequence[Image], question: str) -> list[str]:
        """One answer to `question` per picture, on one line."""
        turns = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
        text = self.processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        inputs = self.processor(
            images=[[picture] for picture in pictures],
            text=[text] * len(pictures),
            return_tensors="pt",
            padding=True,
            add_special_tokens=False,
        )
        inputs = inputs.to(self.model.device, self.model.dtype)
        made = self.model.generate(
            **inputs,
            max_new_tokens=self.max_tokens,
            do_sample=False,
            num_beams=1,
            pad_token_id=self.processor.tokenizer.pad_token_id,
        )
        said = self.processor.batch_decode(made[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return [" ".join(answer.split()) for answer in said]


class ClipScorer:
    """CLIP-Score of pictures and captions: 250 max(cos, 0) per pair."""

    def __init__(self, model: Any, processor: Any) -> None:
        self.model, self.processor = model.eval(), processor

    @torch.no_grad()
    def __call__(self, pictures: Sequence[Image], captions: Sequence[str]) -> list[float]:
        longest = self.model.config.text_config.max_position_embeddings
        inputs = self.processor(
            text=list(captions),
            images=list(pictures),
            return_tensors="pt",
            padding=True,
            truncation=True,
            max_length=longest,
        )
        found = self.model(**inputs.to(self.model.device))
        cosine = torch.nn.functional.cosine_similarity(found.image_embeds.float(), found.text_embeds.float())
        return (100 * CLIP_SCORE_WEIGHT * cosine.clamp_min(0)).tolist()


def load_text_model(
    name: str, device: str = "cpu", dtype: str = "float32", max_tokens: int = 256, batch: int = 16
) -> TextModel:
    """Any causal LM of transformers that has a chat template (Hub id or folder). Raises CheckpointError."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = _load(name, device, dtype, AutoModelForCausalLM, AutoTokenizer)
    _require_chat_template(name, tokenizer)
    with _usable(name):
        TextModel(model, tokenizer, max_tokens=1)(["a"])
    return TextModel(model, tokenizer, max_tokens, batch)


def load_picture_model(name: str, device: str = "cpu", dtype: str = "float32", max_tokens: int = 96) -> PictureModel:
    """Any image-text-to-text model of transformers with a chat template. Raises CheckpointError."""
    from PIL import Image
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model, processor = _load(name, device, dtype, AutoModelForImageTextToText, AutoProcessor)
    _require_chat_template(name, processor)
    with _usable(name):
        PictureModel(model, processor, max_tokens=1)([Image.new("RGB", (64, 64))], "a")
    return PictureModel(model, processor, max_tokens)


def load_clip_scorer(name: str, device: str = "cpu") -> ClipScorer:
    """A CLIP model with both towers. Raises CheckpointError."""
    from PIL import Image
    from transformers import CLIPModel, CLIPProcessor

    scorer = ClipScorer(*_load(name, device, "float32", CLIPModel, CLIPProcessor))
    with _usable(name):
        scorer([Image.new("RGB", (64, 64))], ["a"])
    return scorer


def _load(name: str, device: str, dtype: str, model_class: Any, processor_class: Any) -> tuple[Any, Any]:
    for file in ("config.json", "preprocessor_config.json"):
        if Path(name, file).is_file():
            read_config(Path(name, file))
    check_tokenizer_sizes(Path(name))
    with _usable(name), quiet():
        model, info = model_class.from_pretrained(
            name, dtype=getattr(torch, dtype), output_loading_info=True, trust_remote_code=False
        )
        processor = processor_class.from_pretrained(name, trust_remote_code=False)
    if info["missing_keys"]:
        raise CheckpointError(f"model: {name}: tensors missing: {', '.join(sorted(info['missing_keys'])[:3])}")
    return model.to(device), processor


def _require_chat_template(name: str, processor: Any) -> None:
    if not getattr(processor, "chat_template", None):
        raise CheckpointError(f"model: {name} has no chat template; an instruction model is needed")


def _usable(name: str) -> AbstractContextManager[None]:
    """Whatever a model's files make of its loading, or of a first answer, is one line about the model."""
    return loading("model", f"model: {name}")
