"""How many pictures a second does the judge get through, ours and with mmdet's detector?"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from vhs.geneval.colors import ColorClassifier
from vhs.geneval.detector import Mask2Former
from vhs.geneval.evaluate import GenEval
from vhs.geneval.metadata import read_names
from vhs.geneval.mmdet_checkpoint import coco_config, load_mmdet
from vhs.paths import find


def measure(judge: GenEval, pictures: Sequence[Image.Image], repeats: int = 1) -> dict[str, Any]:
    """Rates of `judge` on `pictures` after one warm-up batch: the detector alone, and verdicts on colour prompts.

    Pictures go in as the command judges them: in batches of the detector's own size.
    """
    names = judge.names
    metadatas = [
        {"tag": "colors", "include": [{"class": names[i % len(names)], "count": 1, "color": "red"}], "prompt": ""}
        for i in range(len(pictures))
    ]
    size = min(judge.detector.batch_size, len(pictures))
    parts = [slice(i, i + size) for i in range(0, len(pictures), size)]

    def detect() -> int:
        return sum(
            len(found) for part in parts for found in judge.detector.detect(pictures[part], judge.thresholds.lowest)
        )

    def whole() -> int:
        return sum(len(v.objects) for part in parts for v in judge.judge_batch(pictures[part], metadatas[part]))

    judge.judge_batch(pictures[:size], metadatas[:size])
    detect_s, _ = timed(detect, repeats)
    whole_s, objects = timed(whole, repeats)
    count = len(pictures)
    return {
        "pictures_per_second": round(count / whole_s, 3),
        "detector_pictures_per_second": round(count / detect_s, 3),
        "pictures": count,
        "batch_size": size,
        "objects_per_picture": round(objects / count, 2),
    }


def timed(work: Callable[[], int], repeats: int) -> tuple[float, int]:
    """(fewest seconds of `repeats` calls, the last result)."""
    seconds, result = [], 0
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return min(seconds), result


def smooth_pictures(count: int, side: int) -> list[Image.Image]:
    """Smooth random pictures: cost does not depend on what is seen, but a detector finds something in them."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return [Image.fromarray(one).resize((side, side), Image.Resampling.BICUBIC) for one in coarse]


def random_judges(detectors: Sequence[str], device: str) -> dict[str, GenEval]:
    """GenEval's detector and ViT-L/14 with the same random weights for both libraries: the cost, without a download.

    Every query is made sure of some class, so that all hundred masks are drawn on both sides: the most work there is.
    """
    import open_clip
    from transformers import Mask2FormerForUniversalSegmentation

    names = read_names(find("data/object_names.txt"))
    model, _, transform = open_clip.create_model_and_transforms("ViT-L-14")
    colors = ColorClassifier(model, transform, open_clip.get_tokenizer("ViT-L-14"), device)
    judges = {}
    if "mmdet" in detectors:
        from vhs.geneval.mmdet_backend import MMDetDetector, build_model

        reference = build_model(device=device)
        _make_sure(reference.panoptic_head.cls_embed)
        judges["mmdet"] = GenEval(MMDetDetector(reference, names), colors)
    if "transformers" in detectors:
        if "mmdet" in judges:
            ours = _converted(judges["mmdet"].detector.model)
        else:
            ours = Mask2FormerForUniversalSegmentation(coco_config())
            _make_sure(ours.class_predictor)
        judges["transformers"] = GenEval(Mask2Former(ours, names, device=device), colors)
    return judges


def _make_sure(classifier: torch.nn.Linear) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        classifier.weight.normal_(std=1.0)
        classifier.bias[-1] = -100.0


def _converted(model: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "random.pth"
        torch.save({"state_dict": {name: tensor.cpu() for name, tensor in model.state_dict().items()}}, path)
        return load_mmdet(path)
