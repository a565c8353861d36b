"""Verifiers on pictures: patch tokens of one layer of a CLIP vision tower.

Pictures are prepared with Pillow and NumPy in the arithmetic of transformers 4.x, which the published verifiers were
trained with; the torchvision processors of later versions differ by up to one grey level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from vhs.checkpoints.boundary import loading, quiet
from vhs.checkpoints.bounds import read_config
from vhs.errors import CheckpointError
from vhs.pictures import open_picture
from vhs.verifiers.base import Reads
from vhs.verifiers.checkpoint import TOWER_PREFIX, VerifierConfig, fill


@dataclass(frozen=True)
class Preprocessing:
    """A preprocessor_config.json: shortest edge in pixels, crop (height, width), and per channel mean and deviation."""

    shortest_edge: int | None
    crop: tuple[int, int] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float = 1 / 255
    resample: int = Image.Resampling.BICUBIC

    @classmethod
    def from_file(cls, file: Path) -> Preprocessing:
        """Raises CheckpointError where the file is missing or resizes in a way that CLIP does not."""
        raw = read_config(file, remedy="a CLIP preprocessor's file is needed")
        with loading("CLIP preprocessor", file, "size.shortest_edge is expected"):
            edge, crop = raw["size"], raw.get("crop_size", raw["size"])
            edge = edge if isinstance(edge, int) else edge["shortest_edge"]
            crop = (crop, crop) if isinstance(crop, int) else (crop["height"], crop["width"])
            found = cls(
                shortest_edge=edge if raw.get("do_resize", True) else None,
                crop=crop if raw.get("do_center_crop", True) else None,
                mean=tuple(raw["image_mean"]),
                std=tuple(raw["image_std"]),
                scale=raw.get("rescale_factor", 1 / 255),
                resample=Image.Resampling(raw.get("resample", Image.Resampling.BICUBIC)),
            )
            found(Image.new("RGB", (3, 2)))  # whether its numbers are such that a picture goes through
            return found

    def __call__(self, picture: Image.Image) -> torch.Tensor:
        """A picture of any size and mode as (3, height, width) float32; alpha is dropped."""
        picture = picture.convert("RGB")
        if self.shortest_edge is not None:
            picture = picture.resize(_resized(picture.size, self.shortest_edge), resample=self.resample)
        pixels = np.asarray(picture)
        if self.crop is not None:
            top, left = ((have - want) // 2 for have, want in zip(pixels.shape, self.crop, strict=False))
            pixels = pixels[top : top + self.crop[0], left : left + self.crop[1]]
        scaled = (pixels.astype(np.float64) * self.scale).astype(np.float32)
        normal = (scaled - np.float32(self.mean)) / np.float32(self.std)
        return torch.from_numpy(normal.transpose(2, 0, 1).copy())


def _resized(size: tuple[int, int], shortest: int) -> tuple[int, int]:
    """(width, height) with the shorter side at `shortest`, the longer rounded down."""
    width, height = size
    if width <= height:
        return shortest, int(shortest * height / width)
    return int(shortest * width / height), shortest


class ClipTower(nn.Module):
    """Tokens of one layer of a `CLIPVisionModel`; the layers above it are cut off.

    `layer` indexes the tower's hidden states (-2: before the last layer); `feature` is `patch`, or `cls_patch` with
    the class token in front.
    """

    def __init__(self, tower: nn.Module, layer: int = -2, feature: str = "patch"):
        super().__init__()
        layers = _encoder_layers(tower)
        kept = layer if layer >= 0 else len(layers) + 1 + layer
        if not 0 <= kept <= len(layers):
            raise CheckpointError(f"mm_vision_select_layer: {layer}; the tower has {len(layers)} layers")
        if feature not in ("patch", "cls_patch"):
            raise CheckpointError(f"mm_vision_select_feature: {feature!r}; patch or cls_patch is expected")
        del layers[kept:]
        self.tower, self.first = tower, 1 if feature == "patch" else 0

    @property
    def dtype(self) -> torch.dtype:
        return next(self.tower.parameters()).dtype

    @property
    def width(self) -> int:
        return self.tower.config.hidden_size

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (N, 3, height, width) to tokens (N, tokens, width); pixels are cast to the tower's dtype first."""
        return self.tower(pixels.to(self.dtype)).last_hidden_state[:, self.first :]


def _encoder_layers(tower: nn.Module) -> nn.ModuleList:
    named = {name: module for name, module in tower.named_modules() if name.endswith("encoder.layers")}
    assert len(named) == 1, f"expected one list of encoder layers, found {list(named)}"
    return next(iter(named.values()))


class ClipReader:
    """Pictures (a list of PIL images or of paths) to patch tokens."""

    reads: Reads = "image"
    block = None

    def __init__(self, tower: ClipTower, preprocessing: Preprocessing):
        self.tower, self.preprocessing, self.width = tower, preprocessing, tower.width

    def check(self, features: Sequence[Any]) -> int:
        if isinstance(features, (str, Path, Image.Image, torch.Tensor)) or not all(
            isinstance(picture, (str, Path, Image.Image)) for picture in features
        ):
            raise CheckpointError(f"verifier: reads a list of N pictures; got {type(features).__name__}")
        return len(features)

    def pixels(self, pictures: Sequence[Any]) -> torch.Tensor:
        """(N, 3, height, width) float32 on the CPU."""
        return torch.stack([self.preprocessing(_opened(picture)) for picture in pictures])

    def __call__(self, features: Sequence[Any]) -> torch.Tensor:
        device = next(self.tower.parameters()).device
        return self.tower(self.pixels(features).to(device))


def _opened(picture: Any) -> Image.Image:
    return picture if isinstance(picture, Image.Image) else open_picture(picture)


def load_clip_reader(
    config: VerifierConfig,
    folder: Path,
    tensors: Mapping[str, torch.Tensor],
    dtype: torch.dtype,
    device: torch.device,
) -> ClipReader:
    """The tower in `folder`, as `config` reads it. Weights under `model.vision_tower.` in the checkpoint replace the
    tower's own.

    Raises:
        CheckpointError: the tower is damaged, of another width, or its layer or feature is not supported.
    """
    tower = _load_tower(folder, dtype)
    tuned = {name: value for name, value in tensors.items() if name.startswith(TOWER_PREFIX)}
    if tuned:
        fill(tower, _tower_names(tower, tuned), f"{config.folder}: {TOWER_PREFIX}*", tied=_position_buffers(tower))
    reader = ClipReader(
        ClipTower(tower.to(device=device, dtype=dtype).eval(), config.select_layer, config.select_feature),
        Preprocessing.from_file(folder / "preprocessor_config.json"),
    )
    _check_width(config, folder, reader.width)
    return reader


def check_tower(config: VerifierConfig, folder: Path) -> None:
    """Raises CheckpointError where the tower in `folder` is not the one that `config` needs; reads no weight."""
    raw = read_config(folder / "config.json")
    _check_width(config, folder, raw.get("vision_config", raw).get("hidden_size"))
    Preprocessing.from_file(folder / "preprocessor_config.json")


def _check_width(config: VerifierConfig, folder: Path, width: int | None) -> None:
    if width != config.width:
        raise CheckpointError(
            f"{folder}: its tokens have {width} channels; {config.folder} takes {config.width} (mm_hidden_size)"
        )


def _load_tower(folder: Path, dtype: torch.dtype) -> nn.Module:
    from transformers import CLIPVisionModel

    with loading("CLIP vision tower", folder, "download it again"), quiet():
        tower, info = CLIPVisionModel.from_pretrained(
            folder, dtype=dtype, local_files_only=True, output_loading_info=True, trust_remote_code=False
        )
    if info["missing_keys"]:
        raise CheckpointError(f"{folder}: CLIP tensors missing: {', '.join(sorted(info['missing_keys']))}")
    return tower


def _tower_names(tower: nn.Module, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """LLaVA nests the tower twice, and transformers 4 put `vision_model.` before every name; 5 does not."""
    inner = "vision_model."
    prefix = inner if next(iter(tower.state_dict())).startswith(inner) else ""
    bare = {name.removeprefix(TOWER_PREFIX).removeprefix("vision_tower."): value for name, value in tensors.items()}
    return {prefix + name.removeprefix(inner): value for name, value in bare.items()}


def _position_buffers(tower: nn.Module) -> list[str]:
    return [name for name, _ in tower.named_buffers() if name.endswith("position_ids")]
