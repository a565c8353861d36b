"""CLIP features of collected pictures: computed once by the tower, read from the set afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vhs.errors import CheckpointError
from vhs.files import read_json_object
from vhs.verifiers.checkpoint import VerifierConfig
from vhs.verifiers.clip import ClipReader, load_clip_reader
from vhs.verifiers.hidden import HiddenReader
from vhs.verifiers.load import fetched_tower, find_tower, load_verifier

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


def load_tower(name: str, layer: int, device: str = "cpu") -> Tower:
    """The CLIP vision tower `name` (Hub id or folder), read at `layer`, in float32.

    Raises CheckpointError: no such tower, or one without that layer.
    """
    folder = fetched_tower(find_tower(name)).path
    raw = read_json_object(folder / "config.json")
    width = raw.get("vision_config", raw).get("hidden_size")
    if not isinstance(width, int):
        raise CheckpointError(f"clip: {name}: not a CLIP vision tower; its config.json has no hidden_size")
    asked = VerifierConfig(
        folder=Path("."),
        model_type="llava_qwen",
        reads="image",
        blocks=(),
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
    return Tower(load_clip_reader(asked, folder, {}, torch.float32, torch.device(device)))


def collected_clip_verifier(path: str, **options: Any) -> LlavaVerifier:
    """A verifier of pictures that is given its tower's features instead; `options` are `load_verifier`'s."""
    verifier = load_verifier(path, **options)
    if verifier.reads != "image":
        raise CheckpointError(
            f"verifier: {path} reads {verifier.reads} features; feature: clip needs one that reads pictures"
        )
    verifier.reader = HiddenReader(verifier.width, None)
    return verifier
