"""Compiled functions: the same results, also for questions that are filled up, and nothing compiled where it counts."""

import pytest
import torch
from torch import nn

from tests.conftest import GOLDEN_D
from vhs.compiled import compile_layers, eagerly
from vhs.generators.grouped import GroupedProduct, multiply_groups
from vhs.generators.sana_sprint import SanaSprint
from vhs.generators.text import STEP, instruction
from vhs.pictures import from_pixels
from vhs.verifiers.conversation import build_inputs
from vhs.verifiers.load import load_verifier


@pytest.fixture
def traced(monkeypatch):
    """Compiling ends where a machine's own compiler would begin."""
    compile = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda layer, **options: compile(layer, backend="eager", **options))


def test_layers_are_compiled_and_not_inside_eagerly(traced):
    seen = []

    class Layer(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(torch.compiler.is_compiling())
            return x.sin() + 1

    layer, x = Layer(), torch.randn(3)
    compile_layers([layer])
    assert torch.allclose(layer(x), x.sin() + 1) and seen == [True]
    with eagerly():
        assert torch.equal(layer(x), x.sin() + 1)
    assert seen == [True, False]


def test_blocks_share_what_is_compiled(traced):
    generator = SanaSprint.from_pretrained(GOLDEN_D / "sana-sprint-tiny", compile=True, image_width=64, image_height=64)
    text, noise = generator.encode(["a photo of a red ring"])[0], generator.noise([1, 2, 3])
    torch._dynamo.utils.counters.clear()
    generator.prefix(noise, text, 7)
    # of eight blocks: the first one's input lies otherwise in memory
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2


@pytest.mark.parametrize("question", ["a photo of a cat", "a photo of a red ring left of a blue star"])
def test_a_question_that_is_filled_up_gets_the_same_logits(question, monkeypatch):
    verifier = load_verifier(GOLDEN_D / "vhs-tiny-hidden", "hidden_7", use_generation_prompt=False)
    features = torch.randn(3, 16, verifier.width)
    ids = build_inputs(verifier.tokenizer, question, False)
    expected = verifier.answer_logits(ids, features)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda layer, dynamic: None)  # the pass that is compiled, plain
    verifier.compile()
    found = verifier._graphed_logits(verifier.llm, verifier.image_features(features), ids)
    assert torch.allclose(found, expected, atol=1e-4)


def test_compiled_generator_and_verifier_choose_what_the_others_do(monkeypatch):
    monkeypatch.setattr(torch.nn.Module, "compile", lambda layer, dynamic: None)
    size = {"image_width": 64, "image_height": 64}
    plain, compiled = (
        SanaSprint.from_pretrained(GOLDEN_D / "sana-sprint-tiny", compile=compile, **size) for compile in (False, True)
    )
    prompt, noise = "a photo of a red ring", plain.noise([1, 2])
    texts = [generator.encode([prompt])[0] for generator in (plain, compiled)]
    seen = texts[0].mask.bool()
    assert torch.allclose(texts[0].embeds[seen], texts[1].embeds[seen], atol=1e-5)
    latents = [generator.generate(noise, text) for generator, text in zip((plain, compiled), texts, strict=True)]
    assert torch.allclose(*latents, atol=1e-4)
    pictures = [generator.decode(latents[0])[1] for generator in (plain, compiled)]
    assert pictures[0].tobytes() == pictures[1].tobytes()


def test_padding_does_not_go_through_the_compiled_text_encoder(monkeypatch):
    monkeypatch.setattr(torch.nn.Module, "compile", lambda layer, dynamic: None)
    size = {"image_width": 64, "image_height": 64}
    generator = SanaSprint.from_pretrained(GOLDEN_D / "sana-sprint-tiny", compile=True, **size)
    lengths = []
    encoder = generator.pipeline.text_encoder
    encoder.layers[0].register_forward_pre_hook(lambda _, inputs: lengths.append(inputs[0].shape[1]))
    text = generator.encode(["a photo of a red ring"])[0]
    padded = text.embeds[~text.mask.bool()]
    assert len(lengths) == 1 and lengths[0] % STEP == 0
    assert 0 <= lengths[0] - _tokens(generator, "a photo of a red ring") < STEP and len(padded) > STEP
    # what fills up the last step alone may be seen
    assert (padded == 0).all(dim=1).sum() >= len(padded) - STEP


def _tokens(generator: SanaSprint, prompt: str) -> int:
    """What stands before the padding: the instruction and the prompt."""
    lines = "\n".join(instruction(None))
    return len(generator.pipeline.tokenizer(lines + prompt).input_ids)


def test_grouped_products_are_the_convolutions():
    layers = [nn.Conv2d(12, 18, 1, groups=3), nn.Conv2d(12, 12, 1, groups=3, bias=False)]
    others = [nn.Conv2d(12, 12, 1), nn.Conv2d(12, 12, 1, groups=12), nn.Conv2d(12, 12, 3, padding=1, groups=3)]
    x = torch.randn(2, 12, 5, 7)
    expected = [layer(x) for layer in (*layers, *others)]
    model = nn.ModuleList([*layers, *others])
    multiply_groups(model)
    assert [type(layer) is GroupedProduct for layer in model] == [True, True, False, False, False]
    for layer, wanted in zip(model, expected, strict=True):
        assert torch.allclose(layer(x), wanted, atol=1e-6)
        assert torch.allclose(layer(x.to(memory_format=torch.channels_last)), wanted, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pixels_become_the_bytes_that_diffusers_makes_of_them(dtype):
    from diffusers.image_processor import VaeImageProcessor

    pixels = (torch.randn(2, 3, 33, 17, generator=torch.Generator().manual_seed(0)) * 0.8).to(dtype)
    theirs = VaeImageProcessor().postprocess(pixels, output_type="pil")
    assert [one.tobytes() for one in from_pixels(pixels)] == [one.tobytes() for one in theirs]
