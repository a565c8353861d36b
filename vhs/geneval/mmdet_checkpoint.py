"""mmdet's Mask2Former checkpoint as transformers' Mask2FormerForUniversalSegmentation.

Both libraries hold the same network under different names. RULES says, for every tensor of the one, where it goes in
the other and what happens on the way; nothing may be missing or left over on either side.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vhs.checkpoints.boundary import loading
from vhs.errors import CheckpointError

State = dict[str, torch.Tensor]

SWIN = "model.pixel_level_module.encoder"
PIXEL = "model.pixel_level_module.decoder"
DECODER = "model.transformer_module.decoder"


@dataclass(frozen=True)
class Rule:
    """Tensors whose whole name matches `pattern` go to `targets`, templates for the match; `change` yields one tensor
    for each target. No target: the tensor is left out on purpose."""

    pattern: str
    targets: tuple[str, ...]
    change: Callable[[torch.Tensor], Sequence[torch.Tensor]] = lambda tensor: (tensor,)


def thirds(tensor: torch.Tensor) -> Sequence[torch.Tensor]:
    """Packed query, key and value rows, in that order."""
    return tensor.chunk(3)


def reorder_merged(tensor: torch.Tensor) -> Sequence[torch.Tensor]:
    """The last axis (4C) of patch merging: channel-major (c, row, col) there, (col, row, c) here."""
    channels = tensor.shape[-1] // 4
    grid = tensor.reshape(*tensor.shape[:-1], channels, 2, 2)
    return (grid.transpose(-3, -1).reshape(tensor.shape),)


def attention(source: str, target: str, names: Sequence[str], suffix: str) -> Rule:
    """A packed projection that is three separate ones here."""
    return Rule(source + suffix, tuple(f"{target}.{name}.\\2" for name in names), thirds)


BLOCK = r"backbone\.stages\.(\d+\.blocks\.\d+)"
LAYER = rf"{SWIN}.swin.encoder.layers.\1"
HEAD = r"panoptic_head"
ENCODER_LAYER = rf"{HEAD}\.pixel_decoder\.encoder\.layers\.(\d+)"
DECODER_LAYER = rf"{HEAD}\.transformer_decoder\.layers\.(\d+)"
W = r"\.(weight|bias)"

RULES = (
    # Swin
    Rule(rf"backbone\.patch_embed\.projection{W}", (rf"{SWIN}.swin.embeddings.patch_embeddings.projection.\1",)),
    Rule(rf"backbone\.patch_embed\.norm{W}", (rf"{SWIN}.swin.embeddings.norm.\1",)),
    Rule(rf"{BLOCK}\.norm1{W}", (rf"{LAYER}.layernorm_before.\2",)),
    Rule(rf"{BLOCK}\.norm2{W}", (rf"{LAYER}.layernorm_after.\2",)),
    Rule(
        rf"{BLOCK}\.attn\.w_msa\.relative_position_bias_table",
        (rf"{LAYER}.attention.relative_position_bias.relative_position_bias_table",),
    ),
    Rule(rf"{BLOCK}\.attn\.w_msa\.relative_position_index", ()),
    attention(rf"{BLOCK}\.attn\.w_msa\.qkv", rf"{LAYER}.attention", ("q_proj", "k_proj", "v_proj"), W),
    Rule(rf"{BLOCK}\.attn\.w_msa\.proj{W}", (rf"{LAYER}.attention.o_proj.\2",)),
    Rule(rf"{BLOCK}\.ffn\.layers\.0\.0{W}", (rf"{LAYER}.mlp.fc1.\2",)),
    Rule(rf"{BLOCK}\.ffn\.layers\.1{W}", (rf"{LAYER}.mlp.fc2.\2",)),
    Rule(
        r"backbone\.stages\.(\d+)\.downsample\.(norm\.weight|norm\.bias|reduction\.weight)",
        (rf"{SWIN}.swin.encoder.layers.\1.downsample.\2",),
        reorder_merged,
    ),
    *(Rule(rf"backbone\.norm{i}{W}", (rf"{SWIN}.hidden_states_norms.stage{i + 1}.\1",)) for i in range(4)),
    # pixel decoder
    Rule(rf"{HEAD}\.pixel_decoder\.input_convs\.(\d+)\.conv{W}", (rf"{PIXEL}.input_projections.\1.0.\2",)),
    Rule(rf"{HEAD}\.pixel_decoder\.input_convs\.(\d+)\.gn{W}", (rf"{PIXEL}.input_projections.\1.1.\2",)),
    Rule(
        rf"{ENCODER_LAYER}\.self_attn\.(sampling_offsets|attention_weights|value_proj|output_proj){W}",
        (rf"{PIXEL}.encoder.layers.\1.self_attn.\2.\3",),
    ),
    Rule(rf"{ENCODER_LAYER}\.ffn\.layers\.0\.0{W}", (rf"{PIXEL}.encoder.layers.\1.fc1.\2",)),
    Rule(rf"{ENCODER_LAYER}\.ffn\.layers\.1{W}", (rf"{PIXEL}.encoder.layers.\1.fc2.\2",)),
    Rule(rf"{ENCODER_LAYER}\.norms\.0{W}", (rf"{PIXEL}.encoder.layers.\1.self_attn_layer_norm.\2",)),
    Rule(rf"{ENCODER_LAYER}\.norms\.1{W}", (rf"{PIXEL}.encoder.layers.\1.final_layer_norm.\2",)),
    Rule(rf"{HEAD}\.pixel_decoder\.level_encoding\.weight", (f"{PIXEL}.level_embed",)),
    Rule(rf"{HEAD}\.pixel_decoder\.lateral_convs\.0\.conv\.weight", (f"{PIXEL}.adapter_1.0.weight",)),
    Rule(rf"{HEAD}\.pixel_decoder\.lateral_convs\.0\.gn{W}", (rf"{PIXEL}.adapter_1.1.\1",)),
    Rule(rf"{HEAD}\.pixel_decoder\.output_convs\.0\.conv\.weight", (f"{PIXEL}.layer_1.0.weight",)),
    Rule(rf"{HEAD}\.pixel_decoder\.output_convs\.0\.gn{W}", (rf"{PIXEL}.layer_1.1.\1",)),
    Rule(rf"{HEAD}\.pixel_decoder\.mask_feature{W}", (rf"{PIXEL}.mask_projection.\1",)),
    # transformer decoder: cross-attention stays packed, self-attention does not
    Rule(rf"{DECODER_LAYER}\.cross_attn\.attn\.(.*)", (rf"{DECODER}.layers.\1.cross_attn.\2",)),
    attention(
        rf"{DECODER_LAYER}\.self_attn\.attn\.in_proj_",
        rf"{DECODER}.layers.\1.self_attn",
        ("q_proj", "k_proj", "v_proj"),
        "(weight|bias)",
    ),
    Rule(rf"{DECODER_LAYER}\.self_attn\.attn\.out_proj{W}", (rf"{DECODER}.layers.\1.self_attn.out_proj.\2",)),
    Rule(rf"{DECODER_LAYER}\.ffn\.layers\.0\.0{W}", (rf"{DECODER}.layers.\1.fc1.\2",)),
    Rule(rf"{DECODER_LAYER}\.ffn\.layers\.1{W}", (rf"{DECODER}.layers.\1.fc2.\2",)),
    Rule(rf"{DECODER_LAYER}\.norms\.0{W}", (rf"{DECODER}.layers.\1.cross_attn_layer_norm.\2",)),
    Rule(rf"{DECODER_LAYER}\.norms\.1{W}", (rf"{DECODER}.layers.\1.self_attn_layer_norm.\2",)),
    Rule(rf"{DECODER_LAYER}\.norms\.2{W}", (rf"{DECODER}.layers.\1.final_layer_norm.\2",)),
    Rule(rf"{HEAD}\.transformer_decoder\.post_norm{W}", (rf"{DECODER}.layernorm.\1",)),
    # queries and heads
    Rule(rf"{HEAD}\.query_feat\.weight", ("model.transformer_module.queries_features.weight",)),
    Rule(rf"{HEAD}\.query_embed\.weight", ("model.transformer_module.queries_embedder.weight",)),
    Rule(rf"{HEAD}\.level_embed\.weight", ("model.transformer_module.level_embed.weight",)),
    *(
        Rule(rf"{HEAD}\.mask_embed\.{2 * i}{W}", (rf"{DECODER}.mask_predictor.mask_embedder.{i}.0.\1",))
        for i in range(3)
    ),
    Rule(rf"{HEAD}\.cls_embed{W}", (r"class_predictor.\1",)),
)

UNUSED = (f"{SWIN}.swin.layernorm.weight", f"{SWIN}.swin.layernorm.bias", "criterion.empty_weight")
"""Tensors of transformers' model that no output depends on, and that mmdet's file does not have."""

OLD_NAMES = (
    (rf"({HEAD}\.pixel_decoder\.encoder\.layers\.\d+)\.attentions\.0\.", r"\1.self_attn."),
    (rf"({HEAD}\.transformer_decoder\.layers\.\d+)\.attentions\.0\.", r"\1.cross_attn."),
    (rf"({HEAD}\.transformer_decoder\.layers\.\d+)\.attentions\.1\.", r"\1.self_attn."),
    (rf"({HEAD}\..*\.layers\.\d+)\.ffns\.0\.", r"\1.ffn."),
)
"""mmdet 2's names -> mmdet 3's."""


def convert(state: Mapping[str, torch.Tensor], rules: Sequence[Rule] = RULES) -> State:
    """mmdet's tensors (names of mmdet 2 or 3) under transformers 5's names.

    Raises CheckpointError for a tensor that no rule knows.
    """
    converted: State = {}
    for old, tensor in state.items():
        name = new_name(old)
        rule, match = next(((r, m) for r in rules if (m := re.fullmatch(r.pattern, name))), (None, None))
        if rule is None:
            raise CheckpointError(f"tensor {old}: not part of mmdet's Mask2Former with a Swin backbone")
        if rule.targets:
            converted.update(zip((match.expand(t) for t in rule.targets), rule.change(tensor), strict=True))
    return converted


def new_name(name: str) -> str:
    """mmdet 3's name for a tensor of mmdet 2 or 3."""
    for pattern, replacement in OLD_NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def load_state(model: Any, state: State) -> Any:
    """Fills transformers' model; raises CheckpointError unless names and shapes agree on both sides."""
    own = model.state_dict()
    expected = own.keys() - set(UNUSED)
    for problem, names in (("is missing", expected - state.keys()), ("is left over", state.keys() - expected)):
        if names:
            raise CheckpointError(f"{len(names)} tensors do not fit: {min(names)} {problem}")
    for name, tensor in state.items():
        if tensor.shape != own[name].shape:
            raise CheckpointError(f"{name} has shape {tuple(tensor.shape)}; {tuple(own[name].shape)} would be right")
    model.load_state_dict(state, strict=False)
    return model.float().eval()


def load_mmdet(path: str | Path, config: Any = None) -> Any:
    """transformers' model from mmdet's file, float32 on the CPU; `config` defaults to GenEval's Swin-S on COCO.

    Raises CheckpointError for a file that is missing, truncated, of another architecture, or whose SHA-256 does not
    begin as its name says (OpenMMLab ends names in its first eight digits).
    """
    from transformers import Mask2FormerForUniversalSegmentation

    path = Path(path)
    digest = check_digest(path)
    with loading("checkpoint of mmdet's Mask2Former", path):
        try:
            state = convert(read_state(path))
            model = load_state(Mask2FormerForUniversalSegmentation(config or coco_config()), state)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from None
    model.config.converted_from = digest
    return model


def read_state(path: Path) -> State:
    """The `state_dict` of a training checkpoint, read without running any code from it."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"not a whole PyTorch checkpoint of tensors ({first[:120]})") from None
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state:
        raise CheckpointError("has no `state_dict`; a checkpoint of mmdet's Mask2Former does")
    return state


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None


def check_digest(path: Path) -> str:
    """The file's SHA-256; raises CheckpointError where its name ends in eight digits that are not the first of it."""
    digest = file_digest(path)
    named = re.search(r"-([0-9a-f]{8})\.pth$", path.name)
    if named and named[1] != digest[:8]:
        raise CheckpointError(f"{path}: its SHA-256 begins with {digest[:8]}, not {named[1]}; download it again")
    return digest


def coco_config() -> Any:
    """transformers' configuration of mask2former_swin-s-p4-w7-224_8xb2-lsj-50e_coco: 68.7 M parameters."""
    from transformers import Mask2FormerConfig, SwinConfig

    swin = SwinConfig(
        embed_dim=96,
        depths=[2, 2, 18, 2],
        num_heads=[3, 6, 12, 24],
        window_size=7,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    return Mask2FormerConfig(backbone_config=swin, num_labels=80)
