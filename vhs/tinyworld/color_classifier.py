"""The colour classifier, a small open_clip model, on cut-out objects of fresh scenes.

Each crop is matched against the ten colours' captions of its own shape, in a template drawn from GenEval's three; the
captions of held-out (shape, colour) pairs never take part, neither as the right answer nor as a wrong one.
"""

from __future__ import annotations

import json

import numpy as np
import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F

from vhs.geneval.colors import TEMPLATES, ColorClassifier, ColorQuery, cut_out, load_colors
from vhs.tinyworld import recipe
from vhs.tinyworld.drawing import render
from vhs.tinyworld.scenes import COLORS, HELD_OUT_PAIRS, SHAPES, Scene, sample_scene, true_detections
from vhs.tinyworld.shape_detector import augment

STAGE = "colors"
SCENES_PER_STEP = 40
MODEL = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
PREPROCESS = {"size": 32, "mode": "RGB", "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25],
              "interpolation": "bicubic", "resize_mode": "shortest"}  # fmt: skip


def crops(scenes: list[Scene], rng: np.random.Generator | None) -> list[tuple[ColorQuery, int, int]]:
    """(query, shape index, colour index) of every object; with `rng`, pictures are augmented and masks made ragged."""
    found = []
    for scene in scenes:
        picture, masks = render(scene)
        if rng is not None:
            pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1
            pixels = augment(pixels, torch.Generator().manual_seed(int(rng.integers(2**31))))
            picture = Image.fromarray(((pixels[0].permute(1, 2, 0) + 1) * 127.5).round().byte().numpy())
            masks = np.stack([_ragged(mask, rng) for mask in masks])
        for obj, seen in zip(scene.objects, true_detections(scene, masks), strict=True):
            query = ColorQuery(picture, seen, obj.shape)
            found.append((query, SHAPES.index(obj.shape), list(COLORS).index(obj.color)))
    return found


def _ragged(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The mask moved by up to a pixel each way: a detector's masks are that coarse."""
    return np.roll(mask, rng.integers(-1, 2, size=2), axis=(0, 1))


def template_texts(rng: np.random.Generator) -> list[str]:
    """80 captions, shape by colour, each in one of GenEval's templates."""
    return [TEMPLATES[rng.integers(3)].format(color=color, object=shape) for shape in SHAPES for color in COLORS]


def allowed() -> torch.Tensor:
    """(8, 10) bool: the (shape, colour) pairs that may be named."""
    return torch.tensor([[(shape, color) not in HELD_OUT_PAIRS for color in COLORS] for shape in SHAPES])


def loss(model, transform, tokenizer, step: int) -> torch.Tensor:
    """Cross-entropy over the colours' captions of each crop's shape."""
    rng = np.random.default_rng([step, 11])
    batch = crops(recipe.fresh_scenes(STAGE, step, SCENES_PER_STEP), rng)
    images = torch.stack([transform(cut_out(query.image, query.detection)) for query, _, _ in batch])
    shapes, colors = (torch.tensor([item[k] for item in batch]) for k in (1, 2))
    text = F.normalize(model.encode_text(tokenizer(template_texts(rng))), dim=-1).view(len(SHAPES), len(COLORS), -1)
    image = F.normalize(model.encode_image(images), dim=-1)
    logits = model.logit_scale.exp().clamp(max=100) * torch.einsum("bd,bcd->bc", image, text[shapes])
    return F.cross_entropy(logits.masked_fill(~allowed()[shapes], float("-inf")), colors)


def accuracy(classifier: ColorClassifier, count: int) -> float:
    """The share of objects in held-out scenes, held-out pairs among them, whose colour is named rightly."""
    scenes = [sample_scene(recipe.HELD_OUT_SEEDS + i, "test") for i in range(count)]
    found = crops(scenes, None)
    named = classifier.classify([query for query, _, _ in found])
    return sum(name == list(COLORS)[color] for name, (_, _, color) in zip(named, found, strict=True)) / len(found)


def save(model) -> None:
    """Write the folder that open_clip loads as `local-dir:`."""
    folder = recipe.CKPTS / "color_clip"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": MODEL, "preprocess_cfg": PREPROCESS}, indent=2), encoding="utf-8"
    )
    tensors = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    # of open_clip's 49,408 words, most of the file, the templates say thirty
    tensors["token_embedding.weight"] = tensors["token_embedding.weight"].to(torch.float8_e4m3fn)
    save_file(tensors,
              folder / "open_clip_model.safetensors")  # fmt: skip


def main() -> None:
    args = recipe.arguments("color_classifier", steps=1000)
    torch.manual_seed(0)
    model = open_clip.model.CLIP(**MODEL)
    transform = image_transform_v2(PreprocessCfg(**PREPROCESS), is_train=False)
    tokenizer = open_clip.SimpleTokenizer(context_length=MODEL["text_cfg"]["context_length"])

    def evaluate(step: int) -> dict[str, float]:
        figure = accuracy(ColorClassifier(model, transform, tokenizer), 200)
        model.train()
        return {"accuracy": round(figure, 4)}

    recipe.train(
        STAGE, model, lambda step: loss(model, transform, tokenizer, step), steps=args.steps, peak=1e-3, average=0.995,
        evaluate=evaluate, evaluate_every=250,
    )  # fmt: skip
    save(model)
    recipe.log(STAGE, final_accuracy=accuracy(load_colors(f"local-dir:{recipe.CKPTS / 'color_clip'}"), 1000))


if __name__ == "__main__":
    recipe.command(main)
