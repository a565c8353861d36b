"""The colour of an object, zero-shot, by CLIP (GenEval, arXiv 2310.11513, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from vhs.checkpoints.boundary import loading
from vhs.checkpoints.open_clip_files import check_open_clip, try_out, unasked
from vhs.errors import CheckpointError
from vhs.geneval.rules import COLORS
from vhs.records import Detection

TEMPLATES = ("a photo of a {color} {object}", "a photo of a {color}-colored {object}", "a photo of a {color} object")
BACKGROUND = "#999"


@dataclass(frozen=True)
class ColorQuery:
    """Which colour has `detection` on `image`, taken for an object of class `label`?"""

    image: Image.Image
    detection: Detection
    label: str


class ColorClassifier:
    """An open_clip model that names one of GenEval's ten colours for a cut-out object."""

    def __init__(self, model: Any, transform: Any, tokenizer: Any, device: torch.device | str = "cpu", batch_size=256):
        """`transform` maps an RGB picture to (3, S, S); crops beyond `batch_size` go through in parts."""
        self.model = model.eval().to(device)
        self.transform = transform
        self.tokenizer = tokenizer
        self.device = torch.device(device)
        self.batch_size = batch_size
        self._prototypes: dict[str, torch.Tensor] = {}

    def classify(self, queries: Sequence[ColorQuery]) -> list[str]:
        """One colour per query; all queries' crops share forward passes."""
        if not queries:
            return []
        best = self.similarities(queries).argmax(1).tolist()
        return [COLORS[index] for index in best]

    @torch.inference_mode()
    def similarities(self, queries: Sequence[ColorQuery]) -> torch.Tensor:
        """(len(queries), 10) cosine similarities of each crop with the ten colours' prototypes."""
        crops = [self.transform(cut_out(query.image, query.detection)) for query in queries]
        parts = torch.stack(crops).split(self.batch_size)
        features = torch.cat([unit(self.model.encode_image(part.to(self.device))) for part in parts])
        prototypes = torch.stack([self.prototypes(query.label) for query in queries])
        return torch.einsum("qd,qcd->qc", features.float(), prototypes)

    @torch.inference_mode()
    def prototypes(self, label: str) -> torch.Tensor:
        """(10, D) unit vectors: per colour, the mean over the templates' unit text embeddings, made unit again."""
        if label not in self._prototypes:
            texts = [template.format(color=color, object=label) for color in COLORS for template in TEMPLATES]
            embedded = unit(self.model.encode_text(self.tokenizer(texts).to(self.device)).float())
            self._prototypes[label] = unit(embedded.view(len(COLORS), len(TEMPLATES), -1).mean(1))
        return self._prototypes[label]


def unit(x: torch.Tensor) -> torch.Tensor:
    """x / |x| over the last dimension."""
    return torch.nn.functional.normalize(x, dim=-1)


def cut_out(image: Image.Image, detection: Detection) -> Image.Image:
    """The object on plain grey, cropped to its box; without a mask, the box as it is."""
    if detection.mask is not None:
        blank = Image.new("RGB", image.size, BACKGROUND)
        image = Image.composite(image, blank, Image.fromarray(detection.mask))
    # A box lies between pixels here (one past the last); PIL's crop wants whole numbers.
    return image.crop(tuple(round(side) for side in detection.box))


def load_colors(name: str, device: torch.device | str = "cpu") -> ColorClassifier:
    """An open_clip architecture with OpenAI's weights, or `local-dir:<folder>` with its own, float32.

    open_clip only warns where OpenAI's weights meet an architecture without their QuickGELU; here it is switched on.
    """
    import open_clip

    local = name.removeprefix("local-dir:")
    if local != name:
        check_open_clip(Path(local), "color_classifier")
    if local == name and name not in open_clip.list_models():
        raise CheckpointError(
            f"color_classifier: open_clip has no model {name!r}; ViT-L-14 or local-dir:<folder> is right"
        )
    options = {} if local != name else openai_options(name)
    with loading("colour classifier", f"color_classifier: {name}"), unasked():
        model, _, transform = open_clip.create_model_and_transforms(
            name, precision="fp32", require_pretrained=True, **options
        )
        tokenizer = open_clip.get_tokenizer(name)
        try_out(model.eval(), transform, tokenizer)
        return ColorClassifier(model, transform, tokenizer, device)


def openai_options(name: str) -> dict[str, Any]:
    """open_clip's arguments for OpenAI's weights of an architecture."""
    import open_clip

    tag = open_clip.get_pretrained_cfg(name, "openai")
    if not tag:
        raise CheckpointError(f"color_classifier: OpenAI published no weights for {name!r}; ViT-L-14 is GenEval's")
    return {"pretrained": "openai", "force_quick_gelu": bool(tag.get("quick_gelu"))}
