"""The tiny world's own tokenizers: byte-pair encodings trained on its captions, in the real models' classes."""

from __future__ import annotations

import json
from collections.abc import Iterable

from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors, trainers
from tokenizers.models import BPE
from transformers import GemmaTokenizer, Qwen2Tokenizer, T5Tokenizer

from vhs.records import TAGS
from vhs.tinyworld.scenes import all_records


def captions() -> list[str]:
    """Every caption of the tiny world, held-out ones too: a tokenizer learns spellings, no combinations."""
    return [record["prompt"] for tag in TAGS for record in all_records(tag)]


def gemma_tokenizer(texts: Iterable[str]) -> GemmaTokenizer:
    """A Gemma tokenizer (byte fallback, "▁" for spaces) in which every caption word is one token."""
    specials = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    letters = [chr(code) for code in range(33, 127)] + ["▁"]
    model = Tokenizer(BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    model.normalizer = normalizers.Replace(" ", "▁")
    model.pre_tokenizer = pre_tokenizers.Split("▁", behavior="merged_with_next")
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=704, special_tokens=specials + byte_tokens, initial_alphabet=letters, show_progress=False
    )
    model.train_from_iterator(texts, trainer)
    learned = json.loads(model.to_str())["model"]
    merges = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in learned["merges"]]
    tokenizer = GemmaTokenizer(vocab=learned["vocab"], merges=merges, model_max_length=8192)
    begin = ("<bos>", tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[begin]
    )
    return tokenizer


def t5_tokenizer(texts: Iterable[str]) -> T5Tokenizer:
    """A T5 tokenizer (unigrams) that has every word of `texts` as one token, and letters for anything else."""
    words = sorted({word for text in texts for word in text.split()})
    letters = ["▁", *(chr(code) for code in range(33, 127))]
    specials = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocabulary = specials + [(f"▁{word}", -5.0) for word in words] + [(letter, -20.0) for letter in letters]
    known = dict(vocabulary)  # a word of one letter is the letter with a space before it: both stay
    return T5Tokenizer(vocab=list(known.items()), extra_ids=0, model_max_length=512)


CHAT_TEMPLATE = (
    "{%- if messages[0].role != 'system' -%}"
    "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
    "{% endif -%}"
    "{%- for message in messages -%}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor -%}"
    "{%- if add_generation_prompt -%}<|im_start|>assistant\n{% endif -%}"
)
"""ChatML with Qwen2.5's default system prompt; the tiny model has no tools."""


def qwen_tokenizer(texts: Iterable[str]) -> Qwen2Tokenizer:
    """A Qwen2 tokenizer (byte-level) with Qwen2.5's ChatML tokens and template."""
    empty = Qwen2Tokenizer(vocab={}, merges=[])
    model = Tokenizer(BPE())
    model.normalizer = normalizers.NFC()
    model.pre_tokenizer = empty.backend_tokenizer.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=768, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    model.train_from_iterator(texts, trainer)
    learned = json.loads(model.to_str())["model"]
    merges = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in learned["merges"]]
    tokenizer = Qwen2Tokenizer(vocab=learned["vocab"], merges=merges, eos_token="<|im_end|>", model_max_length=2048)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
