"""Writes a verifier in the published format: what `load_verifier` and the release's own loader read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vhs.files import writing
from vhs.verifiers.checkpoint import (
    CONNECTOR_PREFIX,
    GENERATOR_RECORD,
    INPUT_RECORD,
    MODEL_TYPES,
    TEMPERATURE,
    parse_tower,
)
from vhs.verifiers.conversation import IMAGE_MARKER
from vhs.verifiers.feature_names import named

_LLM_KEYS = (
    "attention_dropout", "bos_token_id", "eos_token_id", "hidden_act", "hidden_size", "initializer_range",
    "intermediate_size", "max_position_embeddings", "max_window_layers", "num_attention_heads", "num_hidden_layers",
    "num_key_value_heads", "rms_norm_eps", "tie_word_embeddings", "use_cache", "use_sliding_window", "vocab_size",
)  # fmt: skip
_QWEN3_KEYS = ("attention_bias", "head_dim")
_ARCHITECTURES = {"llava_qwen": "LlavaQwenForCausalLM", "llava_qwen3": "LlavaQwen3ForCausalLM"}
_PROCESS_KEYS = ("backend", "is_local", "local_files_only", "processor_class")


def save_verifier(
    folder: str | Path,
    llm: nn.Module,
    connector: nn.Module,
    tokenizer: Any,
    *,
    vision_tower: str,
    projector_type: str,
    width: int,
    swap: bool = False,
    normalize: bool = True,
    select_layer: int = -2,
    select_feature: str = "patch",
    generator: Mapping[str, Any] | None = None,
    trained_input: Mapping[str, Any] | None = None,
    temperature: float | None = None,
    dtype: torch.dtype = torch.bfloat16,
) -> Path:
    """Writes config.json, model.safetensors and the tokenizer's files; each appears whole, config.json last, and other
    files of an existing folder stay.

    Args:
        llm: a plain Qwen2ForCausalLM or Qwen3ForCausalLM; adapters are merged before.
        vision_tower: `hidden_<block>`, `hidden_5+7` for several blocks, `latent`, or a CLIP model id or folder (then
            `select_layer` and `select_feature` say what of it is read).
        width: channels of a token that enters the connector, of all blocks together.
        normalize: hidden states are normalised by the run's statistics.
        generator: what is recorded of the generator whose features it was trained on.
        trained_input: what is recorded of training's inputs (`VerifierConfig.input`).
        temperature: what makes p(yes) a probability, where it was fitted.
        dtype: of the tensors in the file.
    """
    folder = Path(folder)
    partial = folder.with_name(folder.name + ".partial")
    config = _llm_fields(llm, dtype) | _picture_fields(
        vision_tower, projector_type, width, swap, normalize, select_layer, select_feature
    )
    records = {GENERATOR_RECORD: generator, INPUT_RECORD: trained_input, TEMPERATURE: temperature}
    own = {key: record for key, record in records.items() if record}
    with writing(folder):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _write_json(partial / "config.json", config | own)
        _save_tensors(partial / "model.safetensors", llm, connector, dtype)
        _save_tokenizer(partial, tokenizer)
        folder.mkdir(exist_ok=True)
        for file in sorted(partial.iterdir(), key=lambda file: file.name == "config.json"):
            file.replace(folder / file.name)
        partial.rmdir()
    return folder


def _llm_fields(llm: nn.Module, dtype: torch.dtype) -> dict[str, Any]:
    model_type = next(ours for ours, theirs in MODEL_TYPES.items() if theirs == llm.config.model_type)
    keys = _LLM_KEYS + (_QWEN3_KEYS if model_type == "llava_qwen3" else ())
    fields = {key: getattr(llm.config, key) for key in keys}
    rope = dict(llm.config.rope_parameters)
    fields["rope_theta"] = rope.pop("rope_theta")
    if rope.get("rope_type", "default") != "default":
        fields["rope_scaling"] = rope
    fields["sliding_window"] = llm.config.sliding_window or llm.config.max_position_embeddings
    fields["torch_dtype"] = str(dtype).removeprefix("torch.")
    return fields | {"model_type": model_type, "architectures": [_ARCHITECTURES[model_type]]}


def _picture_fields(
    tower: str, projector_type: str, width: int, swap: bool, normalize: bool, select_layer: int, select_feature: str
) -> dict[str, Any]:
    reads, blocks = parse_tower(tower)
    fields: dict[str, Any] = {
        "freeze_mm_mlp_adapter": False,
        "image_aspect_ratio": "pad",
        "mm_hidden_size": width,
        "mm_patch_merge_type": "flat",
        "mm_projector_lr": None,
        "mm_projector_type": projector_type,
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": select_feature if reads == "image" else "patch",
        "mm_vision_select_layer": select_layer,
        "mm_vision_tower": {"hidden": "hidden", "latent": "dummy"}.get(reads, tower),
        "tokenizer_padding_side": "right",
        "tune_mm_mlp_adapter": False,
        "use_mm_proj": True,
    }
    if reads != "image":
        fields |= {"flatten_vae_output": not projector_type.startswith("vit_"), "swap": swap}
    if reads == "hidden":
        assert blocks, "a verifier of hidden states names its block: hidden_<block>"
        fields |= {"hidden_dim": width, "mm_vision_select_feature": f"block_{named(blocks)}"}
        if not normalize:
            fields["mm_vision_normalize"] = False
    return fields


def _save_tensors(file: Path, llm: nn.Module, connector: nn.Module, dtype: torch.dtype) -> None:
    from safetensors.torch import save_file

    tensors = dict(llm.state_dict())
    if llm.config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    tensors |= {CONNECTOR_PREFIX + name: tensor for name, tensor in connector.state_dict().items()}
    cast = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in tensors.items()}
    save_file(cast, file, metadata={"format": "pt"})
    shutil.copymode(file.with_name("config.json"), file)  # safetensors writes for its owner alone


def _save_tokenizer(folder: Path, tokenizer: Any) -> None:
    """The tokenizer's files as transformers 4 wrote and reads them; 5 reads them too, but writes others."""
    tokenizer.save_pretrained(folder, save_jinja_files=False)
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    added = {token["content"]: token["id"] for token in content["added_tokens"]}
    _write_json(folder / "added_tokens.json", added)
    (folder / "vocab.json").write_text(json.dumps(content["model"]["vocab"], ensure_ascii=False), encoding="utf-8")
    merges = (merge if isinstance(merge, str) else " ".join(merge) for merge in content["model"]["merges"])
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{merge}\n" for merge in merges), encoding="utf-8")
    _write_json(folder / "special_tokens_map.json", _special_tokens(tokenizer))
    _write_json(folder / "tokenizer_config.json", _tokenizer_config(folder, content["added_tokens"]))


def _special_tokens(tokenizer: Any) -> dict[str, Any]:
    plain = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    named = {name: {"content": token, **plain} for name, token in tokenizer.special_tokens_map.items()
             if isinstance(token, str)}  # fmt: skip
    others = [token for token in tokenizer.extra_special_tokens if token != IMAGE_MARKER]
    return named | ({"additional_special_tokens": others} if others else {})


def _tokenizer_config(folder: Path, added: list[dict[str, Any]]) -> dict[str, Any]:
    raw = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    config = {key: value for key, value in raw.items() if key not in _PROCESS_KEYS}
    config["additional_special_tokens"] = config.pop("extra_special_tokens", None) or []
    decoder = {str(token["id"]): {k: v for k, v in token.items() if k != "id"} for token in added}
    fixed = {"add_bos_token": False, "added_tokens_decoder": decoder, "extra_special_tokens": {}}
    return config | fixed | {"tokenizer_class": "Qwen2Tokenizer"}


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
