"""`load_verifier`: from a folder or Hub id to a verifier that scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from vhs.errors import CheckpointError, ConfigError
from vhs.verifiers.base import Reader
from vhs.verifiers.checkpoint import (
    MODEL_TYPES,
    VerifierConfig,
    read_json,
    read_shapes,
    read_tensors,
    read_verifier_config,
    warn_of_sampling,
)
from vhs.verifiers.connector import reads_grid
from vhs.verifiers.hidden import HiddenReader, load_statistics
from vhs.verifiers.hub import find_folder
from vhs.verifiers.latent import LatentReader
from vhs.verifiers.llava import LlavaVerifier, build_llm, fill_llm, load_parts, restore_rotary
from vhs.verifiers.llava import resize_vocabulary as resize
from vhs.verifiers.lora import apply_lora

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_verifier(
    path: str | Path,
    vision_tower: str | None = None,
    normalization_mean_path: str | Path | None = None,
    normalization_variance_path: str | Path | None = None,
    use_generation_prompt: bool = True,
    resize_vocabulary: bool = False,
    dtype: str | torch.dtype = "float32",
    device: str | torch.device = "cpu",
    micro_batch: int | None = None,
    lora_weights: str | Path | None = None,
    tokenizer_path: str | Path | None = None,
) -> LlavaVerifier:
    """Loads a verifier in the published format.

    Args:
        path: folder or Hub id.
        vision_tower: `hidden_<block>`, `latent`, or a CLIP model id or folder; None takes what config.json says.
        normalization_mean_path: statistics of the hidden states, one tensor in each file, (1,), (tokens,) or
            (1, width); ignored where config.json has `mm_vision_normalize: false`.
        use_generation_prompt: puts an empty assistant turn before the answer; the published runs say false.
        resize_vocabulary: the release's rule for its two published checkpoints (see `llava.resize_vocabulary`).
        dtype: float32, bfloat16 or float16. The vocabulary is resized before the cast.
        micro_batch: candidates per forward pass; None takes all that `score` is given.
        lora_weights: folder or Hub id of a PEFT adapter for the LLM, with its connector where it was trained too.
        tokenizer_path: folder or Hub id of the tokenizer, where it is not the checkpoint's own.

    Raises:
        ConfigError: an unknown dtype, a device that is not there, or statistics without hidden states.
        CheckpointError: the checkpoint or the statistics are missing, damaged, or do not fit each other.
    """
    dtype, device = _parse_dtype(dtype), _parse_device(device)
    config = read_verifier_config(path, vision_tower)
    statistics = (normalization_mean_path, normalization_variance_path)
    _check_statistics_keys(config, statistics)
    folder = find_folder(path, "latent_verifier_path")
    warn_of_sampling(folder)
    tensors = read_tensors(folder)
    llm, connector = load_parts(config, tensors)
    tokenizer = load_tokenizer(find_folder(tokenizer_path, "tokenizer_path") if tokenizer_path else folder)
    if resize_vocabulary:
        resize(llm, tokenizer)
    reader = _build_reader(config, statistics, tensors, dtype, device)
    llm = llm.to(device=device, dtype=dtype)
    restore_rotary(llm)
    if lora_weights:
        llm = apply_lora(llm, connector, lora_weights).eval()
    connector = connector.to(device=device, dtype=dtype)
    return LlavaVerifier(llm, connector, tokenizer, reader, use_generation_prompt, micro_batch)


def check_verifier(
    path: str | Path,
    vision_tower: str | None = None,
    normalization_mean_path: str | Path | None = None,
    normalization_variance_path: str | Path | None = None,
    tokens: int | None = None,
) -> VerifierConfig:
    """All that can be known of a verifier without reading a weight: its files are whole, their tensors are those that
    config.json asks for, the statistics fit it, and `tokens` image tokens where given. Returns its configuration.

    Raises:
        ConfigError, CheckpointError: as `load_verifier`.
    """
    config = read_verifier_config(path, vision_tower)
    statistics = (normalization_mean_path, normalization_variance_path)
    _check_statistics_keys(config, statistics)
    load_parts(config, read_shapes(find_folder(path, "latent_verifier_path")))
    if config.reads == "hidden":
        reader = _build_reader(config, statistics, {}, torch.float32, torch.device("cpu"))
        if reader.statistics is not None:
            reader.statistics.check(tokens, config.width)
    if config.reads == "image":
        from vhs.verifiers.clip import check_tower

        check_tower(config)
    return config


def load_language_model(
    path: str | Path, dtype: str | torch.dtype = "float32", device: str | torch.device = "cpu"
) -> tuple[nn.Module, Any]:
    """A plain Qwen2 or Qwen3 causal LM and its tokenizer, from a folder or Hub id: where a verifier's training starts.

    Raises:
        ConfigError: an unknown dtype or a device that is not there.
        CheckpointError: the files are missing, damaged, or of another model.
    """
    dtype, device = _parse_dtype(dtype), _parse_device(device)
    folder = find_folder(path, "language_model")
    raw = read_json(folder / "config.json")
    if raw.get("model_type") not in MODEL_TYPES.values():
        kinds = ", ".join(MODEL_TYPES.values())
        raise CheckpointError(f"{folder / 'config.json'}: model_type is {raw.get('model_type')!r}; one of {kinds}")
    llm = build_llm(raw)
    fill_llm(llm, read_tensors(folder), str(folder))
    llm.to(device=device, dtype=dtype)
    restore_rotary(llm)
    return llm, load_tokenizer(folder)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a verifier's folder.

    Raises:
        CheckpointError: its files are missing or damaged.
    """
    from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer

    try:
        # As it is written: the class of its name would build its own pipeline around the vocabulary.
        kind = PreTrainedTokenizerFast if (folder / "tokenizer.json").is_file() else Qwen2Tokenizer
        tokenizer = kind.from_pretrained(folder, local_files_only=True)
        if not tokenizer.encode("yes", add_special_tokens=False):  # what comes of a folder without any of its files
            raise ValueError("an empty vocabulary")
        return tokenizer
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{folder}: no usable tokenizer ({reason}); it needs tokenizer.json, or vocab.json and merges.txt"
        ) from None


def _build_reader(
    config: VerifierConfig, statistics: tuple, tensors: dict, dtype: torch.dtype, device: torch.device
) -> Reader:
    if config.reads == "hidden":
        normalised = config.normalize and statistics[0] is not None
        loaded = load_statistics(*statistics, config.block) if normalised else None
        return HiddenReader(config.width, config.block, loaded)
    if config.reads == "latent":
        return LatentReader(config.width, as_grid=reads_grid(config.projector_type))
    from vhs.verifiers.clip import load_clip_reader

    return load_clip_reader(config, tensors, dtype, device)


def _check_statistics_keys(config: VerifierConfig, paths: tuple) -> None:
    given = [path is not None for path in paths]
    if any(given) and not all(given):
        present, absent = ("mean", "variance") if given[0] else ("variance", "mean")
        raise ConfigError(f"normalization_{absent}_path: missing, but normalization_{present}_path is given; give both")
    if any(given) and config.reads != "hidden":
        raise ConfigError(f"normalization_mean_path: {config.folder} reads {config.reads} features; leave it out")


def _parse_dtype(dtype: str | torch.dtype) -> torch.dtype:
    if isinstance(dtype, torch.dtype) and dtype in DTYPES.values():
        return dtype
    if dtype not in DTYPES:
        raise ConfigError(f"dtype: {dtype!r}; one of {', '.join(DTYPES)}")
    return DTYPES[dtype]


def _parse_device(device: str | torch.device) -> torch.device:
    try:
        parsed = torch.device(device)
    except RuntimeError:
        raise ConfigError(f"device: {device!r}; one of cpu, cuda, cuda:<n>, mps") from None
    absent = (parsed.type == "cuda" and (parsed.index or 0) >= torch.cuda.device_count()) or (
        parsed.type == "mps" and not torch.backends.mps.is_available()
    )
    if absent:
        raise ConfigError(f"device: {device}: not there ({torch.cuda.device_count()} CUDA devices); use device: cpu")
    return parsed
