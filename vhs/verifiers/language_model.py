"""The language model of a verifier: a plain causal LM, from which training starts, and the tokenizer of any folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vhs.checkpoints.boundary import loading
from vhs.checkpoints.bounds import check_tokenizer_sizes, read_config
from vhs.checkpoints.source import find_model
from vhs.errors import CheckpointError
from vhs.verifiers.checkpoint import MODEL_TYPES, VERIFIER_FILES, read_tensors

if TYPE_CHECKING:
    from torch import nn


def load_language_model(path: str | Path, dtype: str = "float32", device: str = "cpu") -> tuple[nn.Module, Any]:
    """A plain Qwen2 or Qwen3 causal LM and its tokenizer, from a folder or Hub id: where a verifier's training starts.

    Raises:
        CheckpointError: the files are missing, damaged, or of another model.
    """
    import torch

    from vhs.verifiers.llava import build_llm, fill_llm, restore_rotary

    folder = find_model("language_model", str(path), VERIFIER_FILES).require()
    raw = read_config(folder / "config.json")
    if raw.get("model_type") not in MODEL_TYPES.values():
        kinds = ", ".join(MODEL_TYPES.values())
        raise CheckpointError(f"{folder / 'config.json'}: model_type is {raw.get('model_type')!r}; one of {kinds}")
    with loading("language model", folder):
        llm = build_llm(raw)
    fill_llm(llm, read_tensors(folder), str(folder))
    llm.to(device=device, dtype=getattr(torch, dtype))
    restore_rotary(llm)
    return llm, load_tokenizer(folder)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a verifier's folder.

    Raises:
        CheckpointError: its files are missing or damaged.
    """
    from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer

    check_tokenizer_sizes(folder)
    with loading("tokenizer", folder, "it needs tokenizer.json, or vocab.json and merges.txt"):
        # As it is written: the class of its name would build its own pipeline around the vocabulary.
        kind = PreTrainedTokenizerFast if (folder / "tokenizer.json").is_file() else Qwen2Tokenizer
        tokenizer = kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        tokenizer("yes")  # what its special tokens are added by
        if not tokenizer.encode("yes", add_special_tokens=False):  # what comes of a folder without any of its files
            raise ValueError("an empty vocabulary")
        if not isinstance(tokenizer.model_max_length, (int, float)):
            raise ValueError(f"model_max_length is {tokenizer.model_max_length!r}")
        return tokenizer
