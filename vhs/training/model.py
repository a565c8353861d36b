"""A verifier in training: connector and LLM as one module, the checkpoint it starts from, and how it is saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vhs.checkpoints.boundary import loading
from vhs.checkpoints.bounds import read_config
from vhs.checkpoints.source import find_model
from vhs.errors import CheckpointError
from vhs.training.config import TrainConfig
from vhs.training.data.normalization import statistics_of
from vhs.training.dataset import Batch
from vhs.verifiers.checkpoint import MODEL_TYPES, VerifierConfig, read_tensors, read_verifier_config
from vhs.verifiers.connector import build_connector, reads_grid
from vhs.verifiers.hidden import HiddenReader, check_statistics, digest, load_all_statistics
from vhs.verifiers.language_model import load_language_model
from vhs.verifiers.latent import LatentReader
from vhs.verifiers.llava import load_parts
from vhs.verifiers.save import save_verifier

MODEL_FILES = ("*.json", "*.safetensors", "*.txt", "*.jinja")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TrainedVerifier(nn.Module):
    """Logits of chosen next tokens in [before | picture | after], in one forward pass without padding masks.

    `after` is padded on the right: under causal attention no token that is read sees the padding. Only the positions
    asked for go through the LLM's head, whose logits would otherwise take most of the memory. `before` is the same for
    all samples and comes first, so its keys and values are computed once per batch (`shares_before`; not under
    gradient checkpointing, which keeps none, nor under FSDP, which gathers a layer's weights for the gradient of its
    output, not of its keys and values).
    """

    def __init__(self, llm: nn.Module, connector: nn.Module, before: list[int], shares_before: bool = True) -> None:
        super().__init__()
        self.llm, self.connector = llm, connector
        self.shares_before = shares_before and bool(before)
        self.register_buffer("before", torch.tensor(before, dtype=torch.long), persistent=False)

    def forward(
        self, features: torch.Tensor, after: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor
    ) -> torch.Tensor:
        """`features` (B, tokens, width) normalised, `after` (B, Q) ids; (M, vocabulary) logits that follow column
        `columns[m]` of row `rows[m]` of `after` (-1: the picture's last token)."""
        picture = self.connector(features)
        embed = self.llm.get_input_embeddings()
        asked = embed(after).to(picture.dtype)
        if self.shares_before:
            hidden = self._after_shared(embed(self.before).to(picture.dtype), torch.cat([picture, asked], dim=1))
        else:
            before = embed(self.before).to(picture.dtype).expand(len(features), -1, -1)
            inputs = torch.cat([before, picture, asked], dim=1)
            hidden = self.llm.model(inputs_embeds=inputs, use_cache=False).last_hidden_state[:, before.shape[1] :]
        chosen = hidden[rows, picture.shape[1] + columns]
        with torch.autocast(chosen.device.type, enabled=False):  # logits of 8 bits would be the loss's own error
            return self.llm.lm_head(chosen.to(self.llm.lm_head.weight.dtype))

    def _after_shared(self, before: torch.Tensor, rest: torch.Tensor) -> torch.Tensor:
        """Hidden states (B, L, D) of `rest` behind `before` (P, D), which goes through the LLM once for all samples."""
        cache = self.llm.model(inputs_embeds=before[None], use_cache=True).past_key_values
        cache.batch_repeat_interleave(len(rest))
        return self.llm.model(inputs_embeds=rest, past_key_values=cache, use_cache=True).last_hidden_state


@dataclass(frozen=True)
class InitialCheckpoint:
    """What a training starts from, known before any weight is read; `verifier` is None for a plain language model."""

    folder: Path
    verifier: VerifierConfig | None
    hidden_size: int
    context: int
    projector_type: str


def read_initial_checkpoint(config: TrainConfig, shape: tuple[int, ...]) -> InitialCheckpoint:
    """Checks `init` against one sample's shape of the feature, (tokens, width) or (c, h, w).

    Raises CheckpointError: no such checkpoint, another architecture, another width or block.
    """
    folder = find_model("init", config.init, MODEL_FILES).require()
    with loading("model to start from", folder):
        return _initial_checkpoint(folder, config, shape)


def _initial_checkpoint(folder: Path, config: TrainConfig, shape: tuple[int, ...]) -> InitialCheckpoint:
    raw = read_config(folder / "config.json")
    kind, width = raw.get("model_type"), feature_width(shape)
    if kind in MODEL_TYPES:
        verifier = read_verifier_config(folder, tower_name(config))
        if verifier.width != width:
            raise CheckpointError(
                f"init: {folder} reads features of width {verifier.width}, {config.feature} has {width}"
            )
        return InitialCheckpoint(
            folder, verifier, verifier.hidden_size, raw["max_position_embeddings"], verifier.projector_type
        )
    if kind not in MODEL_TYPES.values():
        known = ", ".join([*MODEL_TYPES.values(), *MODEL_TYPES])
        raise CheckpointError(f"init: {folder}: model_type is {kind!r}; one of {known} is needed")
    with torch.device("meta"):
        build_connector(config.mm_projector_type, width, raw["hidden_size"])
    return InitialCheckpoint(folder, None, raw["hidden_size"], raw["max_position_embeddings"], config.mm_projector_type)


def tower_name(config: TrainConfig) -> str:
    """The `vision_tower` that a saved verifier states."""
    return config.vision_tower if config.feature == "clip" else config.feature


def feature_width(shape: tuple[int, ...]) -> int:
    """Channels of a feature, by one sample's shape: (c, h, w) or (tokens, width)."""
    return shape[0] if len(shape) == 3 else shape[-1]


def load_initial_checkpoint(initial: InitialCheckpoint, config: TrainConfig, width: int) -> tuple[nn.Module, nn.Module]:
    """LLM and connector in float32 on the CPU; a fresh connector's weights come from `config.seed`.

    Raises CheckpointError for weights that are missing or of another shape.
    """
    with loading("model to start from", initial.folder):
        if initial.verifier is not None:
            llm, connector = load_parts(initial.verifier, read_tensors(initial.folder))
        else:
            llm, _ = load_language_model(initial.folder)
            with torch.random.fork_rng():
                torch.manual_seed(config.seed)
                connector = build_connector(initial.projector_type, width, initial.hidden_size)
        return llm.float(), connector.float()


def prepare(
    llm: nn.Module, connector: nn.Module, config: TrainConfig, before: list[int], sharded: bool = False
) -> TrainedVerifier:
    """The module of a stage: what it does not train is frozen, adapters are added. `sharded`: FSDP will distribute the
    weights."""
    train_llm = config.stage == "finetune"
    llm.requires_grad_(train_llm and config.lora_rank is None)
    connector.requires_grad_(True)
    if config.lora_rank is not None:
        from peft import LoraConfig, inject_adapter_in_model

        with torch.random.fork_rng():
            torch.manual_seed(config.seed + 1)  # other numbers than the connector's
            inject_adapter_in_model(
                LoraConfig(
                    r=config.lora_rank,
                    lora_alpha=config.lora_alpha,
                    lora_dropout=config.lora_dropout,
                    target_modules=config.lora_targets,
                ),
                llm,
            )
    if config.gradient_checkpointing:
        llm.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        # a checkpointed layer whose inputs ask for no gradient passes none on; embeddings of a frozen LLM do not ask
        if config.stage == "align" or config.lora_rank is not None:
            llm.enable_input_require_grads()
    return TrainedVerifier(llm, connector, before, shares_before=not (sharded or config.gradient_checkpointing))


def parameter_groups(model: TrainedVerifier, config: TrainConfig) -> list[dict[str, Any]]:
    """AdamW's groups with their peak rates: connector and LLM, matrices (which decay) and the rest."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((name.startswith("connector."), parameter.ndim > 1), []).append(parameter)
    rates = {True: config.connector_learning_rate or config.learning_rate, False: config.learning_rate}
    return [
        {"params": members, "peak": rates[is_connector], "lr": 0.0, "weight_decay": config.weight_decay * decays}
        for (is_connector, decays), members in groups.items()
    ]


Preprocessing = Callable[[torch.Tensor], torch.Tensor]
"""From stored features (B, ...) to the connector's input (B, tokens, width): float32, normalised, flattened."""


def build_preprocessing(config: TrainConfig, shape: tuple[int, ...], projector_type: str) -> Preprocessing:
    """What a verifier of this feature does before its connector, for samples of `shape`.

    Raises CheckpointError for statistics that are missing or do not fit the feature.
    """
    files = statistics_of(config, config.feature)
    if files and not config.blocks:
        key = "normalization" if config.normalization else "normalization_mean_path"
        raise CheckpointError(f"{key}: feature {config.feature} is not normalised; leave it out")
    if config.feature == "latent":
        reader: LatentReader | HiddenReader = LatentReader(shape[0], as_grid=reads_grid(projector_type))
    elif files:
        statistics = load_all_statistics(files, config.blocks)
        check_statistics(statistics, *shape)
        reader = HiddenReader(shape[1], config.blocks, statistics)
    else:
        return torch.Tensor.float
    return lambda features: reader(features.float())


def input_record(config: TrainConfig) -> dict[str, Any]:
    """What a run has to repeat beside the prompt, so that its scores are those that were trained."""
    files = statistics_of(config, config.feature)
    statistics = load_all_statistics(files, config.blocks) if files else ()
    return {"use_generation_prompt": config.use_generation_prompt, "statistics": digest(statistics)}


def to_device(batch: Batch, device: torch.device) -> Batch:
    return Batch(**{name: tensor.to(device, non_blocking=True) for name, tensor in vars(batch).items()})


def save(
    model_state: Mapping[str, torch.Tensor],
    model: TrainedVerifier,
    tokenizer: Any,
    config: TrainConfig,
    initial: InitialCheckpoint,
    width: int,
    folder: Path,
    generator: Mapping[str, Any] | None = None,
    trained_input: Mapping[str, Any] | None = None,
    temperature: float | None = None,
) -> Path:
    """Writes the verifier whose tensors are `model_state` in the release's format, adapters merged."""
    llm_state = _part(model_state, "llm.")
    with torch.device("meta"):  # the gathered tensors are assigned: no second copy of the LLM in memory
        llm = type(model.llm)(model.llm.config)
        connector = build_connector(initial.projector_type, width, initial.hidden_size, _swap(initial))
    absent = llm.load_state_dict(merge_adapters(llm_state, config), strict=False, assign=True)
    assert not absent.unexpected_keys and set(absent.missing_keys) <= {"lm_head.weight"}, absent
    llm.tie_weights()
    connector.load_state_dict(_part(model_state, "connector."), assign=True)
    return save_verifier(
        folder,
        llm,
        connector,
        tokenizer,
        vision_tower=tower_name(config),
        projector_type=initial.projector_type,
        width=width,
        swap=_swap(initial),
        normalize=bool(statistics_of(config, config.feature)) or not config.blocks,
        select_layer=config.clip_layer,
        generator=generator,
        trained_input=trained_input,
        temperature=temperature,
        dtype=DTYPES[config.save_dtype],
    )


def _swap(initial: InitialCheckpoint) -> bool:
    return initial.verifier.swap if initial.verifier is not None else False


def _part(state: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def merge_adapters(state: Mapping[str, torch.Tensor], config: TrainConfig) -> dict[str, torch.Tensor]:
    """The LLM's own tensors with W + (alpha / rank) B A in the place of an adapted layer's W."""
    merged = {}
    for name, tensor in state.items():
        if ".lora_A." in name or ".lora_B." in name:
            continue
        layer = name.removesuffix(".base_layer.weight")
        if layer != name:
            a, b = (state[f"{layer}.lora_{part}.default.weight"].float() for part in "AB")
            # in float32, as the adapter was trained: the sum would lose small updates in bfloat16
            tensor = tensor.float() + (config.lora_alpha / config.lora_rank) * (b @ a)
        merged[name.replace(".base_layer.", ".")] = tensor
    return merged
