"""Instances of a picture by transformers' Mask2Former, run the way mmdet runs it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image

from vhs.checkpoints.boundary import loading, quiet
from vhs.checkpoints.bounds import read_config
from vhs.checkpoints.weights import check_safetensors
from vhs.errors import CheckpointError, ImageError
from vhs.geneval.instances import Instances, find_instances
from vhs.geneval.preprocess import Prepared, prepare
from vhs.records import Detection

COCO_SIZE = (1333, 800)


class Detector(Protocol):
    """What GenEval asks of a detector, whichever library is behind it."""

    names: tuple[str, ...]
    batch_size: int

    def detect(self, images: Sequence[Image.Image], min_score: float | None = None) -> list[list[Detection]]:
        """The instances of each RGB picture, unordered; those that cannot exceed `min_score` may be left out."""


class Mask2Former:
    """A Mask2FormerForUniversalSegmentation and the names of its classes, by index."""

    def __init__(
        self,
        model: Any,
        names: Sequence[str],
        size: Sequence[int] = COCO_SIZE,
        device: torch.device | str = "cpu",
        batch_size: int | None = None,
    ):
        """`size` is the (long, short) side that pictures are resized to; `batch_size` None: as many as are quick."""
        if model.config.num_labels != len(names):
            raise CheckpointError(
                f"detector: {model.config.num_labels} classes, but object_names lists {len(names)}; they go together"
            )
        self.model = model.eval().to(device)
        self.names = tuple(names)
        self.size = tuple(size)
        self.device = torch.device(device)
        self.batch_size = batch_size or quick_batch(self.size, self.device)

    def detect(self, images: Sequence[Image.Image], min_score: float | None = None) -> list[list[Detection]]:
        """As Detector.detect; masks are on each picture's own grid."""
        return [self._records(found) for found in self.instances(images, min_score)]

    @torch.inference_mode()
    def instances(self, images: Sequence[Image.Image], min_score: float | None = None) -> list[Instances]:
        """As `detect`, as tensors with query indices. Pictures of one padded size share a forward pass, so that no
        picture is padded more than mmdet would pad it alone."""
        prepared = [self._prepare(image) for image in images]
        found: list[Instances | None] = [None] * len(images)
        for indices in batches([one.padded for one in prepared], self.batch_size):
            output = self.model(pixel_values=torch.stack([prepared[i].pixels for i in indices]))
            logits = zip(output.class_queries_logits, output.masks_queries_logits, strict=True)
            for i, (classes, masks) in zip(indices, logits, strict=True):
                one = prepared[i]
                found[i] = find_instances(classes, masks, one.padded, one.resized, one.original, min_score)
        return found

    def _prepare(self, image: Image.Image) -> Prepared:
        try:
            return prepare(image, self.size, self.device)
        except ValueError as error:
            raise ImageError(f"{getattr(image, 'filename', '') or 'picture'}: {error}") from None

    def _records(self, found: Instances) -> list[Detection]:
        rows = zip(
            found.label.tolist(), found.score.tolist(), found.box.tolist(), found.mask.cpu().numpy(), strict=True
        )
        return [Detection(self.names[label], score, tuple(box), mask) for label, score, box, mask in rows]


def batches(keys: Sequence[Any], batch_size: int) -> list[list[int]]:
    """Indices of equal keys together, at most `batch_size` at once, in order of first appearance."""
    groups: dict[Any, list[int]] = {}
    for index, key in enumerate(keys):
        groups.setdefault(key, []).append(index)
    return [group[i : i + batch_size] for group in groups.values() for i in range(0, len(group), batch_size)]


def quick_batch(size: Sequence[int], device: torch.device) -> int:
    """Pictures per forward pass: eight of COCO's size on a GPU, one on a CPU; 64 at most."""
    at_once = 8 if device.type == "cuda" else 1
    return min(64, max(1, at_once * COCO_SIZE[0] * COCO_SIZE[1] // (size[0] * size[1])))


def load_model(path: str | Path) -> Any:
    """A Mask2FormerForUniversalSegmentation from a `save_pretrained` folder or mmdet's .pth, float32, on the CPU.

    Raises CheckpointError for a missing or truncated file, another architecture, and any tensor missing or left over.
    """
    path = Path(path)
    if path.is_dir():
        return _load_folder(path)
    from vhs.geneval.mmdet_checkpoint import load_mmdet

    return load_mmdet(path)


def _load_folder(folder: Path) -> Any:
    from transformers import Mask2FormerForUniversalSegmentation

    check_folder(folder)
    with loading("detector", folder), quiet():
        model, report = Mask2FormerForUniversalSegmentation.from_pretrained(
            folder,
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            trust_remote_code=False,
        )
    wrong = (
        sorted(report["missing_keys"]) + sorted(report["unexpected_keys"]) + sorted(map(str, report["mismatched_keys"]))
    )
    if wrong:
        raise CheckpointError(
            f"{folder}: {len(wrong)} tensors are missing, left over or of another shape: {wrong[0]} ..."
        )
    return model


def check_folder(folder: Path) -> dict[str, Any]:
    """The folder's config.json, read without loading weights; raises where it is not a Mask2Former."""
    config = read_config(folder / "config.json", remedy="a save_pretrained folder has one")
    if config.get("model_type") != "mask2former":
        raise CheckpointError(f"{folder}: model_type is {config.get('model_type')!r}; mask2former would be right")
    files = list(folder.glob("*.safetensors"))
    if not files:
        raise CheckpointError(f"{folder}: no *.safetensors file beside config.json")
    for file in files:
        check_safetensors(file)
    return config


def converted_from(path: str | Path) -> str | None:
    """The SHA-256 of the .pth that a `save_pretrained` folder was made from, where its config.json says so."""
    return check_folder(Path(path)).get("converted_from") if Path(path).is_dir() else None
