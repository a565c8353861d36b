"""Tiny random vision-language models of the real classes with their real processors, saved as on the Hub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

if TYPE_CHECKING:
    from vhs.verifiers.vlm import VisionLanguageModel

WORDS = (
    "Yes",
    "yes",
    " yes",
    " Yes",
    "No",
    "no",
    " no",
    " No",
    *"0123456789",
    "Two",
    "two",
    " two",
    " Two",
    "?",
    "a",
    " a",
)
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}IMAGE{% else %}{{ c['text'] }}{% endif %}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
}


def pictures(*sizes: tuple[int, int]) -> list[Image.Image]:
    """Random RGB pictures of these (height, width)."""
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)) for size in sizes]


def asked(model: VisionLanguageModel, picture: Image.Image, question: str) -> Any:
    """One conversation about one picture, as the model's processor writes it."""
    content = [{"type": "image", "image": picture}, {"type": "text", "text": question}]
    return model.processor.apply_chat_template(
        [{"role": "user", "content": content}],
        tokenize=True,
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
    )


def tokenizer(special: list[str], named: dict[str, str] | None = None, words: tuple[str, ...] = WORDS) -> Any:
    """Byte-level, with every word of `words` as one token; `named` are extra special tokens by attribute."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_tokens([AddedToken(word, normalized=False) for word in words if len(word) > 1])
    inner.add_special_tokens(["<|im_start|>", "<|im_end|>", "<|endoftext|>", *special])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=named or special,
    )


def save_qwen3_vl(folder: Path, words: tuple[str, ...] = WORDS) -> Path:
    from transformers import Qwen2VLImageProcessor, Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor
    from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

    own = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    words_of = tokenizer(own, words=words)
    start, end, image, video = words_of.convert_tokens_to_ids(own)
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 4,
        "patch_size": 8,
        "out_hidden_size": 32,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0],
    }
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1], "mrope_interleaved": True}
    config = Qwen3VLConfig(
        text_config={**TEXT, "vocab_size": len(words_of), "rope_parameters": rope, "rope_scaling": rope},
        vision_config=vision,
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
    )
    size = {"shortest_edge": 32 * 32, "longest_edge": 64 * 64}
    pictures = Qwen2VLImageProcessor(patch_size=8, merge_size=2, temporal_patch_size=2, size=size)
    template = TEMPLATE.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    processor = Qwen3VLProcessor(
        pictures, words_of, Qwen3VLVideoProcessor(patch_size=8, size=size), chat_template=template
    )
    return _save(folder, lambda: Qwen3VLForConditionalGeneration(config), processor)


def save_gemma3(folder: Path, words: tuple[str, ...] = WORDS) -> Path:
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3ImageProcessor, Gemma3Processor

    named = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    words_of = tokenizer([], named, words)
    begin, end, image = words_of.convert_tokens_to_ids(list(named.values()))
    config = Gemma3Config(
        text_config={**TEXT, "vocab_size": len(words_of), "sliding_window": 64},
        vision_config=_siglip(32),
        mm_tokens_per_image=4,
        boi_token_index=begin,
        eoi_token_index=end,
        image_token_index=image,
    )
    pictures = Gemma3ImageProcessor(size={"height": 32, "width": 32})
    template = TEMPLATE.replace("IMAGE", "<start_of_image>")
    processor = Gemma3Processor(pictures, words_of, chat_template=template, image_seq_length=4)
    return _save(folder, lambda: Gemma3ForConditionalGeneration(config), processor)


def save_llava_onevision(folder: Path, words: tuple[str, ...] = WORDS) -> Path:
    from transformers import (
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        LlavaOnevisionImageProcessor,
        LlavaOnevisionProcessor,
        LlavaOnevisionVideoProcessor,
    )

    words_of = tokenizer(["<image>", "<video>"], words=words)
    image, video = words_of.convert_tokens_to_ids(["<image>", "<video>"])
    grid = [[32, 32], [32, 64], [64, 32]]
    config = LlavaOnevisionConfig(
        text_config={**TEXT, "model_type": "qwen2", "vocab_size": len(words_of)},
        vision_config={"model_type": "siglip_vision_model", **_siglip(32)},
        image_token_index=image,
        video_token_index=video,
        image_grid_pinpoints=grid,
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
    )
    size = {"height": 32, "width": 32}
    pictures = LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=grid)
    processor = LlavaOnevisionProcessor(
        pictures,
        words_of,
        LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=TEMPLATE.replace("IMAGE", "<image>"),
    )
    return _save(folder, lambda: LlavaOnevisionForConditionalGeneration(config), processor)


def save_internvl(folder: Path, words: tuple[str, ...] = WORDS) -> Path:
    from transformers import GotOcr2ImageProcessor, InternVLConfig, InternVLForConditionalGeneration, InternVLProcessor
    from transformers.models.internvl.video_processing_internvl import InternVLVideoProcessor

    named = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    words_of = tokenizer([], named, words)
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": [32, 32],
        "patch_size": [8, 8],
    }
    config = InternVLConfig(
        text_config={**TEXT, "model_type": "qwen2", "vocab_size": len(words_of)},
        vision_config=vision,
        image_token_id=words_of.convert_tokens_to_ids("<IMG_CONTEXT>"),
    )
    size = {"height": 32, "width": 32}
    processor = InternVLProcessor(
        GotOcr2ImageProcessor(size=size, max_patches=2),
        words_of,
        InternVLVideoProcessor(size=size),
        image_seq_length=4,
        chat_template=TEMPLATE.replace("IMAGE", "<IMG_CONTEXT>\n"),
    )
    return _save(folder, lambda: InternVLForConditionalGeneration(config), processor)


def _siglip(side: int) -> dict[str, int]:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return {**sizes, "image_size": side, "patch_size": 8}


def _save(folder: Path, build: Callable[[], torch.nn.Module], processor: Any) -> Path:
    """With larger weights than initialisation gives, so that pictures and questions move the answer."""
    model = build()
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


BUILDERS = {
    "qwen3_vl": save_qwen3_vl,
    "gemma3": save_gemma3,
    "llava_onevision": save_llava_onevision,
    "internvl": save_internvl,
}
