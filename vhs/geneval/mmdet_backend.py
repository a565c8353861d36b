"""The reference detector: mmdet 3's own Mask2Former, where mmdet is installed (requirements-mmdet.txt)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image

from vhs.errors import CheckpointError, ConfigError
from vhs.geneval.mmdet_checkpoint import check_digest, new_name, read_state
from vhs.records import Detection

CONFIG = ".mim/configs/mask2former/mask2former_swin-s-p4-w7-224_8xb2-lsj-50e_coco.py"
"""GenEval's detector within mmdet's package."""


class MMDetDetector:
    """mmdet's detector behind the interface of `detector.Detector`: one picture at a time, through its own pipeline."""

    batch_size = 1

    def __init__(self, model: Any, names: Sequence[str]):
        """`model` as `init_detector` returns it; its own class names are ignored, `names` count by index."""
        classes = model.panoptic_head.num_things_classes
        if classes != len(names):
            raise CheckpointError(f"detector: {classes} classes, but object_names lists {len(names)}; they go together")
        self.model = model
        self.names = tuple(names)

    @classmethod
    def load(
        cls, checkpoint: str | Path, config: str | Path | None, names: Sequence[str], device: str = "cpu"
    ) -> MMDetDetector:
        """From mmdet's .pth and a configuration file; None: mmdet's own file of GenEval's detector."""
        check_digest(Path(checkpoint))
        model = build_model(config, device)
        fill(model, Path(checkpoint))
        return cls(model, names)

    def detect(self, images: Sequence[Image.Image], min_score: float | None = None) -> list[list[Detection]]:
        """As Detector.detect; mmdet draws every mask, `min_score` only leaves rows out afterwards."""
        return [self._records(self.infer(image), min_score) for image in images]

    def infer(self, image: Image.Image) -> Any:
        """mmdet's `pred_instances` for an RGB picture."""
        from mmdet.apis import inference_detector

        return inference_detector(self.model, np.ascontiguousarray(np.asarray(image)[:, :, ::-1])).pred_instances

    def _records(self, found: Any, min_score: float | None) -> list[Detection]:
        if min_score is not None:
            found = found[found.scores > min_score]
        rows = zip(
            found.labels.tolist(), found.scores.tolist(), found.bboxes.tolist(), found.masks.cpu().numpy(), strict=True
        )
        return [Detection(self.names[label], score, tuple(box), mask) for label, score, box, mask in rows]


def build_model(config: str | Path | None = None, device: torch.device | str = "cpu") -> Any:
    """mmdet's model with random weights."""
    import_mmcv_without_ops()
    try:
        import mmdet
        from mmdet.apis import init_detector
    except ImportError as error:
        raise ConfigError(f"detector: mmdet is not installed ({error}); `make test-mmdet` makes .venv-mmdet") from None
    path = Path(config) if config else Path(mmdet.__file__).parent / CONFIG
    if not path.is_file():
        raise ConfigError(f"segmentation_config_path: {path} is missing; without the key mmdet's own file is used")
    return init_detector(str(path), None, palette="coco", device=str(device))


def fill(model: Any, checkpoint: Path) -> None:
    """Loads every tensor, names of mmdet 2 included: mmdet itself goes on silently with those it does not find."""
    state = {new_name(name): tensor for name, tensor in read_state(checkpoint).items()}
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        second = [*str(error).splitlines(), "", ""][1].strip()
        raise CheckpointError(f"{checkpoint}: not a checkpoint of this configuration ({second[:160]})") from None


def import_mmcv_without_ops() -> None:
    """Lets mmcv-lite stand in for mmcv: Mask2Former imports compiled operators, but on a CPU calls none."""
    try:
        import mmcv._ext  # noqa: F401 - whether it can be imported is the question
    except ImportError:
        stand_in = _NoOps("mmcv._ext")
        stand_in.__spec__ = ModuleSpec("mmcv._ext", None)
        sys.modules["mmcv._ext"] = stand_in


class _NoOps(ModuleType):
    """Answers for any operator's name; the operator itself refuses to run."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*args: Any, **kwargs: Any) -> None:
            raise RuntimeError(f"mmcv's operator {name} is not compiled; install mmcv instead of mmcv-lite")

        return missing
