"""The shipped teacher as a SANA pipeline is the same function, and runs as a generator of several steps."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch

from vhs.generators.diffusers_pipeline import DiffusersPipeline
from vhs.tinyworld import sana, teacher, teacher_pipeline, text_encoder
from vhs.tinyworld.worlds import SANA

SIGMAS = [1.0, 0.75, 0.5, 0.25]


def test_the_pipeline_samples_as_the_teacher_does(tmp_path: Path) -> None:
    generator = DiffusersPipeline.from_pretrained(
        teacher_pipeline.write(tmp_path / "teacher"),
        image_width=64,
        image_height=64,
        num_inference_steps=4,
        guidance_scale=4.0,
        complex_human_instruction=False,
        max_sequence_length=16,
        pipeline_arguments={"sigmas": SIGMAS},
    )
    prompt = "a photo of a red circle"
    [text], noise = generator.encode([prompt]), generator.noise([1, 2])
    latents = generator.generate(noise, text)

    tokens = SANA.tokenizer()
    model = sana.TextToLatent(len(tokens)).eval()
    model.load_state_dict(teacher.shipped("cpu"))
    ids, mask = text_encoder.tokenize(tokens, [prompt])
    empty = text_encoder.tokenize(tokens, [""])
    assert list(pairwise([*SIGMAS, 0.0])) == list(pairwise(torch.linspace(1, 0, 5).tolist()))
    expected = teacher.sample(model, noise, ids.expand(2, -1), mask.expand(2, -1), empty, steps=4, guided=4, scale=4.0)
    torch.testing.assert_close(latents, expected, atol=1e-3, rtol=1e-3)
