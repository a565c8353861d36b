"""The second world's student takes the step that its pipeline takes, and its tokenizer knows the captions' words."""

import pytest
import torch

from vhs.generators.diffusers_pipeline import DiffusersPipeline
from vhs.tinyworld import pixart
from vhs.tinyworld.text_encoder import tokenize
from vhs.tinyworld.tokenizers import captions
from vhs.tinyworld.worlds import PIXART


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return PIXART.untrained().eval().requires_grad_(False)


def test_the_pipeline_takes_the_students_step(model, tmp_path):
    folder = tmp_path / "pixart"
    model.pipeline(PIXART.tokenizer(), pixart.autoencoder()).save_pretrained(folder)
    generator = DiffusersPipeline.from_pretrained(
        folder,
        image_width=64,
        image_height=64,
        guidance_scale=1.0,
        timesteps=(pixart.TIMESTEP,),
        max_sequence_length=16,
    )
    prompts = ["a photo of a red star", "a photo of two rings"]
    noise = torch.randn(2, 16, 8, 8)
    made = torch.cat(
        [generator.generate(z[None], text) for z, text in zip(noise, generator.encode(prompts), strict=True)]
    )
    expected = model.one_step(noise, *tokenize(PIXART.tokenizer(), prompts))[0]
    torch.testing.assert_close(made, expected, atol=1e-4, rtol=1e-4)


def test_a_caption_is_read_word_by_word_and_the_empty_one_is_a_single_token():
    tokens = PIXART.tokenizer()
    ids, mask = tokenize(tokens, ["a photo of two crosses", ""])
    assert tokens.convert_ids_to_tokens(ids[0, :6]) == ["▁a", "▁photo", "▁of", "▁two", "▁crosses", "</s>"]
    assert mask.sum(1).tolist() == [6, 1]
    assert tokens.unk_token_id not in tokens(captions())["input_ids"][0]
