"""CLIP features of collected pictures: made once by the tower, read from the set afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vhs.checkpoints.hub import find_folder
from vhs.errors import CheckpointError
from vhs.verifiers.checkpoint import VerifierConfig, read_json
from vhs.verifiers.clip import ClipReader, load_clip_reader
from vhs.verifiers.hidden import HiddenReader
from vhs.verifiers.load import load_verifier

if TYPE_CHECKING:
    from PIL.Image import Image

    from vhs.verifiers.llava import LlavaVerifier


class Tower:
    """Pictures to patch tokens (N, tokens, width), as a verifier with this tower and layer reads them."""

    def __init__(self, reader: ClipReader) -> None:
        self.reader = reader

    @torch.no_grad()
    def __call__(self, pictures: Sequence[Image]) -> torch.Tensor:
        return self.reader(pictures)


def load_tower(name: str, layer: int, device: str = "auto") -> Tower:
    """The CLIP vision tower `name` (Hub id or folder), read at `layer`, in float32.

    Raises CheckpointError: no such tower, or one without that layer.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    raw = read_json(find_folder(name, "clip", ("config.json",)) / "config.json")
    width = raw.get("vision_config", raw).get("hidden_size")
    if not isinstance(width, int):
        raise CheckpointError(f"clip: {name}: not a CLIP vision tower; its config.json has no hidden_size")
    asked = VerifierConfig(
        folder=Path("."),
        model_type="llava_qwen",
        reads="image",
        block=None,
        width=width,
        hidden_size=0,
        projector_type="identity",
        swap=False,
        tower=name,
        select_layer=layer,
        select_feature="patch",
        normalize=False,
        raw={},
    )
    return Tower(load_clip_reader(asked, {}, torch.float32, torch.device(device)))


def collected_clip_verifier(path: str, **options: Any) -> LlavaVerifier:
    """A verifier of pictures that is given its tower's features instead; `options` are `load_verifier`'s."""
    verifier = load_verifier(path, **options)
    if verifier.reads != "image":
        raise CheckpointError(
            f"verifier: {path} reads {verifier.reads} features; feature: clip needs one that reads pictures"
        )
    verifier.reader = HiddenReader(verifier.width, None)
    return verifier
