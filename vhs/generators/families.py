"""What differs between families of diffusers' text-to-image pipelines, and cannot be read off their files.

Prompt embeddings, masks, guidance and schedulers need no word here: `vhs.generators.replay` lets a pipeline's own
`__call__` handle them. docs/generators.md shows how to add a family.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vhs.errors import CheckpointError

if TYPE_CHECKING:
    import torch

Config = Mapping[str, Any]
HERE = "vhs/generators/families.py"


@dataclass(frozen=True)
class Family:
    """One family of pipelines.

    `blocks` are the network's lists of blocks (or single blocks) in the order in which they run; None: every list of
    modules that the network has, in the order of its definition. `short` is the list that `hidden_<n>` means (None:
    the first). Every output of a list in `read_again` is read by later blocks too (a U-Net's skip connections).

    A block returns the image's tokens (N, tokens, width), a feature map (N, width, h, w), or them together with the
    text: `stream` is their place in a tuple, `joint` says whether the image is the `first` or the `last` part of one
    sequence. None: found by their size.

    With guidance in one batch the conditional half is the second, or the first (`conditional_first`). `guidance` is
    the argument that `guidance_scale` goes to, and `guided_by` the key of the network's configuration that must be
    true for it to have an effect (None: any network). `arguments` are further arguments of `__call__`. A scheduler
    that adds fresh noise in every step takes it from the candidates' seeds (`fresh_noise`). `decoder` is a pipeline
    whose ending decodes the latents, where that of the pipeline itself cannot be reached without its loop.
    """

    blocks: tuple[str, ...] | None = None
    short: str | None = None
    read_again: tuple[str, ...] = ()
    stream: int | None = None
    joint: str | None = None
    conditional_first: bool = False
    guidance: str = "guidance_scale"
    guided_by: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    fresh_noise: bool = False
    decoder: str | None = None


_TRANSFORMER = Family(blocks=("transformer_blocks",))
_UNET = Family(
    blocks=("down_blocks", "mid_block", "up_blocks"), short="mid_block", read_again=("down_blocks",), stream=0
)

FAMILIES: dict[str, Family] = {
    "SanaSprintPipeline": Family(blocks=("transformer_blocks",), fresh_noise=True, decoder="SanaPipeline"),
    "SanaPipeline": _TRANSFORMER,
    "PixArtAlphaPipeline": _TRANSFORMER,
    "PixArtSigmaPipeline": _TRANSFORMER,
    "FluxPipeline": Family(
        blocks=("transformer_blocks", "single_transformer_blocks"), stream=1, joint="last", guided_by="guidance_embeds"
    ),
    "StableDiffusion3Pipeline": Family(blocks=("transformer_blocks",), stream=1),
    "StableDiffusionPipeline": _UNET,
    "StableDiffusionXLPipeline": _UNET,
    "ZImagePipeline": Family(
        blocks=("noise_refiner", "context_refiner", "layers"), short="layers", joint="first", conditional_first=True
    ),
    "QwenImagePipeline": Family(
        blocks=("transformer_blocks",), stream=1, guidance="true_cfg_scale", arguments={"negative_prompt": " "}
    ),
}
"""Pipeline class -> family. A class that is not here gets `Family()`: everything is found by its size."""


def family_of(pipeline: str) -> Family:
    """The family of a pipeline class by its name."""
    return FAMILIES.get(pipeline, Family())


def image_tokens(output: Any, family: Family, tokens: int, width: int, where: str) -> torch.Tensor:
    """The image's tokens (N, tokens, width) in what a block returned; `where` names the block in messages.

    Raises CheckpointError, saying what to add to the family, where they cannot be told from the text's.
    """
    found = output
    if isinstance(output, tuple):
        streams = [entry for entry in output if getattr(entry, "ndim", 0) in (3, 4)]
        fitting = [entry for entry in streams if _flat(entry).shape[1:] == (tokens, width)]
        if family.stream is None and len(fitting) != 1:
            raise _unknown(where, output, tokens, width, "stream (the image's place in the tuple)")
        found = fitting[0] if family.stream is None else output[family.stream]
    found = _flat(found)
    if found.shape[1] > tokens and family.joint:
        found = found[:, :tokens] if family.joint == "first" else found[:, -tokens:]
    if found.shape[1:] != (tokens, width):
        raise _unknown(where, output, tokens, width, "joint (whether the image is the first or last part)")
    return found


def _flat(output: torch.Tensor) -> torch.Tensor:
    """A feature map (N, width, h, w) as tokens, row by row; tokens as they are."""
    return output.flatten(2).transpose(1, 2) if output.ndim == 4 else output


def _unknown(where: str, output: Any, tokens: int, width: int, what: str) -> CheckpointError:
    shapes = [tuple(entry.shape) for entry in (output if isinstance(output, tuple) else (output,)) if entry is not None]
    return CheckpointError(
        f"block: {where} returns {', '.join(map(str, shapes))}, in which {tokens} image tokens of width {width} "
        f"cannot be told; add {what} to the pipeline's family in {HERE}"
    )
