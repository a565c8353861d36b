"""Models of an architecture with random weights, in this project's classes: costs without a download.

On the meta device they have no weights at all, for shapes, FLOPs and bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from vhs.checkpoints.boundary import loading, quiet
from vhs.compiled import require_compiler
from vhs.config.run import RunConfig
from vhs.errors import ConfigError
from vhs.generators.architecture import SHIPPED, read_generator_info, shipped_architecture
from vhs.generators.base import GeneratorInfo
from vhs.generators.loading import random_pipeline
from vhs.generators.sana_sprint import SanaSprint
from vhs.generators.settings import GeneratorSettings
from vhs.generators.text import instruction
from vhs.measure.config import OWN, read_architecture
from vhs.measure.counted import INSTRUCTION_TOKENS
from vhs.paths import PROJECT, find
from vhs.verifiers.clip import ClipReader, ClipTower, Preprocessing
from vhs.verifiers.connector import build_connector
from vhs.verifiers.feature_names import blocks_in
from vhs.verifiers.hidden import HiddenReader, Statistics
from vhs.verifiers.language_model import load_tokenizer
from vhs.verifiers.latent import LatentReader
from vhs.verifiers.llava import LlavaVerifier, build_llm, restore_rotary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from vhs.verifiers.base import Reader

TOKENIZERS = PROJECT / "ckpts" / "tiny"
"""The tiny world's tokenizers stand in for the published ones: 98 tokens of a question instead of about 110. SANA's
long instruction is cut to what it has with Gemma's."""


def random_generator(config: RunConfig, device: str, dtype: str) -> SanaSprint:
    """SANA-Sprint of the sizes in `config.ckpt`. Raises ConfigError for another generator, or unknown sizes, and
    CheckpointError for sizes of which there is no model."""
    from transformers import AutoTokenizer

    folder = shipped_architecture(config.ckpt) or find(config.ckpt)
    if config.generator != "Sana-Sprint" or not (folder / "model_index.json").is_file():
        known = ", ".join(name for name in SHIPPED if "Sprint" in name)
        raise ConfigError(
            f"ckpt: {config.ckpt}: random weights are made for SANA-Sprint, from a folder of its JSON files or {known}"
        )
    if config.compile:
        require_compiler(device)
    settings = GeneratorSettings.of(config, device, dtype)
    info = read_generator_info(folder, settings)
    tokenizer = AutoTokenizer.from_pretrained(
        str(TOKENIZERS / "sana_sprint" / "tokenizer"), local_files_only=True, trust_remote_code=False
    )
    if lines := instruction(settings.complex_human_instruction):
        settings = replace(settings, complex_human_instruction=cut(tokenizer, "\n".join(lines)))
    torch.manual_seed(0)
    with loading("architecture", folder), quiet():
        return SanaSprint(random_pipeline(folder, device, dtype, tokenizer), info, settings)


def cut(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """The beginning of a text of INSTRUCTION_TOKENS tokens at most."""
    offsets = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    return text[: offsets[min(len(offsets), INSTRUCTION_TOKENS) - 1][1]]


def random_verifier(
    reads: str, architecture: str, tower: str | None, info: GeneratorInfo, micro_batch: int | None
) -> LlavaVerifier:
    """A verifier that reads `hidden_<block>`, `hidden_5+7`, `latent` or `clip` of the generator `info`, on its device.

    `architecture` and `tower` are names of vhs/verifiers/architectures or config.json files. Raises ConfigError or
    CheckpointError.
    """
    raw, device, dtype = read_architecture(architecture), torch.device(info.device), getattr(torch, info.dtype)
    torch.manual_seed(1)
    reader = _reader(reads, tower, info, device, dtype)
    with loading("architecture", architecture):
        with torch.device("meta"):
            connector = build_connector(raw["mm_projector_type"], reader.width, raw["hidden_size"])
        llm = filled(build_llm(raw), device, dtype)
        if device.type != "meta":
            restore_rotary(llm)
    tokenizer = load_tokenizer(TOKENIZERS / "verifier_hidden_7")
    tokenizer.model_max_length = llm.config.max_position_embeddings
    return LlavaVerifier(llm, filled(connector, device, dtype), tokenizer, reader, False, micro_batch)


def places(values: Mapping[str, Any]) -> str:
    """What a verifier of a benchmark's configuration is made from, in messages."""
    return ", ".join(str(values[name]) for name in OWN if name in values)


def _reader(reads: str, tower: str | None, info: GeneratorInfo, device: torch.device, dtype: torch.dtype) -> Reader:
    if reads == "latent":
        return LatentReader(info.latent_shape[0])
    if blocks := blocks_in(reads):
        for block in blocks:
            info.require_block(block, "verifiers")
        mean, variance = (torch.full((1, info.width), value, device=device, dtype=dtype) for value in (0.0, 1.0))
        statistics = (Statistics(mean, variance, "random weights"),) * len(blocks)
        return HiddenReader(info.width * len(blocks), blocks, statistics)
    from transformers import CLIPVisionConfig, CLIPVisionModel

    raw = read_architecture(tower)
    with loading("architecture", tower):
        config = CLIPVisionConfig(**raw)
        with torch.device("meta"):
            model = CLIPVisionModel(config)
        side = config.image_size
        preprocessing = Preprocessing(side, (side, side), (0.48, 0.46, 0.41), (0.27, 0.26, 0.28))
        return ClipReader(ClipTower(filled(model, device, dtype)), preprocessing)


def filled(model: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A model that was built on the meta device, with random matrices, unit scales and no biases, for inference.

    The numbers are such that activations stay finite in any precision.
    """
    model = model.to(dtype).eval().requires_grad_(False)
    if device.type == "meta":
        return model
    buffers = dict(model.named_buffers())
    model.to_empty(device=device)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=0.02)
        else:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
    for name, buffer in model.named_buffers():
        if buffers[name].dtype == torch.long:  # positions
            buffer.copy_(torch.arange(buffer.numel(), device=device).view_as(buffer))
    return model
