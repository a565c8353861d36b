"""The method's passes on a fake GPU: every tensor is made or moved to where the models are."""

import contextlib
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.fake_gpu import fake_gpu, moved
from vhs.generators.architecture import read_generator_info
from vhs.generators.loading import load_pipeline
from vhs.generators.sana_sprint import SanaSprint
from vhs.generators.settings import GeneratorSettings
from vhs.geneval.colors import ColorQuery, load_colors
from vhs.geneval.detector import load_model
from vhs.geneval.instances import mask_boxes, upsample
from vhs.geneval.preprocess import prepare
from vhs.records import Detection
from vhs.verifiers.conversation import build_inputs
from vhs.verifiers.load import load_verifier

TINY = Path(__file__).parents[1] / "ckpts" / "tiny"
PROMPT = "a photo of a red star and a blue ring"


def test_a_tensor_left_on_the_cpu_is_noticed():
    with fake_gpu(), pytest.raises(RuntimeError, match="cuda:0, cpu"):
        torch.zeros(2, device="cuda") + torch.zeros(2)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_generator_and_verifier(monkeypatch, steps, dtype):
    size = {"image_height": 64, "image_width": 64}
    settings = GeneratorSettings(device="cuda", dtype=dtype, num_inference_steps=steps, micro_batch=2, **size)
    info = read_generator_info(TINY / "sana_sprint", settings)
    pipeline = load_pipeline(TINY / "sana_sprint", settings.dtype, settings.text_softcapping)
    mean, variance = (TINY / "normalization" / f"block_7_{name}_bf16.pt" for name in ("mean", "variance"))
    verifier = load_verifier(
        TINY / "verifier_hidden_7",
        "hidden_7",
        use_generation_prompt=False,
        normalization_mean_path=str(mean),
        normalization_variance_path=str(variance),
    )
    pixels = []
    monkeypatch.setattr("vhs.generators.sana_sprint.from_pixels", lambda one: pixels.append(one) or [])
    monkeypatch.setattr(SanaSprint, "_require_finite", lambda self, pixels: None)  # looks at values
    monkeypatch.setattr(SanaSprint, "_place", lambda self: None)
    monkeypatch.setattr(SanaSprint, "_resident", lambda self, model: contextlib.nullcontext())
    with fake_gpu() as gpu:
        for model in (pipeline.text_encoder, pipeline.transformer, pipeline.vae, verifier.llm, verifier.connector):
            moved(model, gpu)
        generator = SanaSprint(pipeline, info, settings)
        text = generator.encode([PROMPT])[0]
        noise = generator.noise([1, 2, 3])
        prefix = generator.prefix(noise, text, 7)
        latents = [generator.finish(prefix[[1]]), generator.generate(noise, text)]
        generator.decode(latents[0])
        logits = verifier.answer_logits(build_inputs(verifier.tokenizer, PROMPT, False), prefix.hidden)
    assert {t.device.type for t in (text.embeds, prefix.hidden, *latents, *pixels, logits)} == {"cuda"}
    assert prefix.hidden.dtype == getattr(torch, dtype) and latents[0].dtype == torch.float32
    assert pixels[0].shape == (1, 3, 64, 64) and len(logits) == 3


def test_detector_and_colours():
    model, colors = load_model(TINY / "detector"), load_colors(f"local-dir:{TINY / 'color_clip'}")
    image = Image.new("RGB", (80, 64), "red")
    colors.transform = lambda crop: torch.zeros(3, 32, 32)  # torchvision's looks at values
    with fake_gpu() as gpu, torch.inference_mode():
        moved(model, gpu), moved(colors.model, gpu)
        colors.device = torch.device("cuda")
        one = prepare(image, (64, 64), "cuda")
        found = model(pixel_values=one.pixels[None])
        masks = upsample(found.masks_queries_logits[0], one.padded, one.resized, one.original)
        similar = colors.similarities([ColorQuery(image, Detection("star", 0.9, (0, 0, 40, 40)), "star")])
        boxes = mask_boxes(masks > 0)
    assert masks.shape[1:] == (64, 80) and similar.shape == (1, 10)
    assert {t.device.type for t in (found.class_queries_logits, masks, boxes, similar)} == {"cuda"}
