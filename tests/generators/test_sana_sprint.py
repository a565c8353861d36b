"""What holds for every SANA-Sprint: continuing equals the whole, work is done once, batches change nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from vhs.errors import ConfigError
from vhs.generators.sana_sprint import SanaSprint
from vhs.records import TextEmbedding

SIDE = {"image_width": 64, "image_height": 64}


@contextmanager
def in_parts_of(sprint: SanaSprint, size: int) -> Iterator[None]:
    """The candidates go through in micro-batches of `size`."""
    sprint.micro_batch = size
    try:
        yield
    finally:
        sprint.micro_batch = None


def whole(sprint: SanaSprint, noise: torch.Tensor, text: TextEmbedding, **named: object) -> torch.Tensor:
    """diffusers' own full result, latents or pictures."""
    count = len(noise)
    defaults = {
        "num_inference_steps": 1,
        "intermediate_timesteps": None,
        "output_type": "latent",
        "height": 64,
        "width": 64,
        "use_resolution_binning": False,
    }
    return sprint.pipeline(
        prompt_embeds=text.embeds.repeat(count, 1, 1),
        prompt_attention_mask=text.mask.repeat(count, 1),
        latents=noise,
        **{**defaults, **named},
    ).images


@contextmanager
def counted(*modules: torch.nn.Module) -> Iterator[list[int]]:
    """How many samples went through each module."""
    counts = [0] * len(modules)

    def hook(index: int) -> Callable[..., None]:
        def count(module: torch.nn.Module, inputs: tuple, named: dict, output: object) -> None:
            first = inputs[0] if inputs else next(iter(named.values()))
            counts[index] += len(first)

        return count

    handles = [module.register_forward_hook(hook(i), with_kwargs=True) for i, module in enumerate(modules)]
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("fixture, blocks", [("golden_sprint", 10), ("patched_sprint", 20)])
def test_finishing_is_bit_equal_to_the_pipeline_at_every_block(
    request: pytest.FixtureRequest, fixture: str, blocks: int
) -> None:
    sprint: SanaSprint = request.getfixturevalue(fixture)
    [text], noise = sprint.encode(["two red circles"]), sprint.noise([1, 2, 3])
    full = whole(sprint, noise, text)
    assert sprint.info.blocks == blocks and full.std() > 0.1
    for block in range(blocks):
        prefix = sprint.prefix(noise, text, block)
        assert prefix.hidden.shape == (3, sprint.info.tokens, sprint.info.width)
        assert torch.equal(sprint.finish(prefix), full), block
    assert torch.equal(sprint.generate(noise, text), full)


def test_hidden_states_are_the_blocks_own_outputs(patched_sprint: SanaSprint) -> None:
    [text], noise = patched_sprint.encode(["a star"]), patched_sprint.noise([1, 2])
    outputs: dict[int, torch.Tensor] = {}
    hooks = [
        block.register_forward_hook(lambda m, i, output, index=index: outputs.__setitem__(index, output))
        for index, block in enumerate(patched_sprint.transformer.transformer_blocks)
    ]
    whole(patched_sprint, noise, text)
    for hook in hooks:
        hook.remove()
    for block in (0, 7, 19):
        assert torch.equal(patched_sprint.prefix(noise, text, block).hidden, outputs[block])


def test_a_winner_finished_alone_equals_the_pipeline_within_rounding(patched_sprint: SanaSprint) -> None:
    [text], noise = patched_sprint.encode(["a blue heart"]), patched_sprint.noise(range(8))
    with in_parts_of(patched_sprint, 3):
        prefix = patched_sprint.prefix(noise, text)
    winner = patched_sprint.finish(prefix[[5]])
    torch.testing.assert_close(winner, whole(patched_sprint, noise, text)[5:6], atol=1e-5, rtol=0)
    [picture], full = patched_sprint.decode(winner), whole(patched_sprint, noise[5:6], text, output_type="pil")[0]
    assert np.abs(np.asarray(picture, np.int16) - np.asarray(full, np.int16)).max() <= 1


def test_a_prod_prompt_does_no_work_twice(patched_sprint: SanaSprint) -> None:
    pipeline = patched_sprint.pipeline
    parts = (pipeline.text_encoder, *patched_sprint.transformer.transformer_blocks, pipeline.vae.decoder)
    with counted(*parts) as counts, in_parts_of(patched_sprint, 4):
        [text] = patched_sprint.encode(["a green ring"])
        prefix = patched_sprint.prefix(patched_sprint.noise(range(6)), text, block=7)
        patched_sprint.decode(patched_sprint.finish(prefix[[2]]))
    assert counts == [1, *[6] * 8, *[1] * 12, 1]


def test_the_prefix_leaves_no_hook_and_the_blocks_in_place(patched_sprint: SanaSprint) -> None:
    blocks = list(patched_sprint.transformer.transformer_blocks)
    [text], noise = patched_sprint.encode(["a moon"]), patched_sprint.noise([0])
    patched_sprint.finish(patched_sprint.prefix(noise, text, 3))
    assert list(patched_sprint.transformer.transformer_blocks) == blocks
    assert not any(block._forward_hooks for block in blocks)


def test_prompts_do_not_influence_each_other(golden_sprint: SanaSprint) -> None:
    prompts = ["a red square", "two cats and a dog on a very long bench", "x"]
    forward, backward = golden_sprint.encode(prompts), golden_sprint.encode(prompts[::-1])[::-1]
    for one, other in zip(forward, backward, strict=True):
        assert torch.equal(one.embeds, other.embeds) and torch.equal(one.mask, other.mask)


@pytest.mark.parametrize("micro_batch", [1, 2, 5])
def test_a_micro_batch_changes_rounding_only(patched_sprint: SanaSprint, micro_batch: int) -> None:
    [text], noise = patched_sprint.encode(["a red cross"]), patched_sprint.noise(range(5))
    at_once = patched_sprint.prefix(noise, text)
    with in_parts_of(patched_sprint, micro_batch):
        parts = patched_sprint.prefix(noise, text)
        latents = patched_sprint.finish(parts)
        pictures = patched_sprint.decode(latents)
    torch.testing.assert_close(parts.hidden, at_once.hidden, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(latents, patched_sprint.finish(at_once), atol=1e-5, rtol=1e-5)
    for one, other in zip(pictures, patched_sprint.decode(latents), strict=True):
        assert np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16)).max() <= 1


@pytest.mark.parametrize("steps", [2, 3, 8])
def test_several_steps_equal_the_pipeline(patched_folder: Path, steps: int) -> None:
    sprint = SanaSprint.from_pretrained(patched_folder, num_inference_steps=steps, intermediate_timesteps=1.2, **SIDE)
    [text], noise = sprint.encode(["three white stars"]), sprint.noise([11])
    assert noise.shape == (1, steps, 16, 8, 8)
    generator = torch.Generator().manual_seed(11)
    full = whole(
        sprint,
        torch.randn(1, 16, 8, 8, generator=generator),
        text,
        generator=generator,
        num_inference_steps=steps,
        intermediate_timesteps=1.2 if steps == 2 else None,
    )
    assert torch.equal(sprint.generate(noise, text), full)
    assert torch.equal(sprint.finish(sprint.prefix(noise, text, block=7)), full)


def test_the_hidden_state_of_an_earlier_step(patched_folder: Path) -> None:
    """Step 1 of 3 is read; the steps after it run in `finish`, with the noise that was drawn for them."""
    first = SanaSprint.from_pretrained(patched_folder, num_inference_steps=3, hidden_step=1, **SIDE)
    last = SanaSprint.from_pretrained(patched_folder, num_inference_steps=3, **SIDE)
    one = SanaSprint.from_pretrained(patched_folder, **SIDE)
    [text], noise = first.encode(["a pink moon"]), first.noise([3, 4])
    prefix = first.prefix(noise, text, block=5)
    assert torch.equal(prefix.hidden, one.prefix(noise[:, 0], text, block=5).hidden)
    assert not torch.equal(prefix.hidden, last.prefix(noise, text, block=5).hidden)
    assert torch.equal(first.finish(prefix), last.generate(noise, text))
    assert torch.allclose(first.finish(prefix[[1]]), last.generate(noise, text)[1:], atol=1e-5)


def test_guidance_is_an_input_and_absent_means_the_pipelines_own(
    patched_folder: Path, patched_sprint: SanaSprint
) -> None:
    [text], noise = patched_sprint.encode(["a circle"]), patched_sprint.noise([1])
    weak = SanaSprint.from_pretrained(patched_folder, guidance_scale=1.0, **SIDE).generate(noise, text)
    default = patched_sprint.generate(noise, text)
    assert torch.equal(default, whole(patched_sprint, noise, text, guidance_scale=4.5))
    assert torch.equal(weak, whole(patched_sprint, noise, text, guidance_scale=1.0))
    assert not torch.equal(weak, default)


def test_one_step_ignores_intermediate_timesteps(patched_folder: Path, patched_sprint: SanaSprint) -> None:
    [text], noise = patched_sprint.encode(["a circle"]), patched_sprint.noise([1])
    other = SanaSprint.from_pretrained(patched_folder, intermediate_timesteps=0.7, **SIDE)
    assert torch.equal(other.generate(noise, text), patched_sprint.generate(noise, text))


def test_text_length_and_instruction_are_keys(golden_folder: Path, golden_sprint: SanaSprint) -> None:
    short = SanaSprint.from_pretrained(golden_folder, complex_human_instruction=False, max_sequence_length=32, **SIDE)
    own = SanaSprint.from_pretrained(golden_folder, complex_human_instruction=["Draw this:", ""], **SIDE)
    prompt = "a yellow ring"
    [plain], [instructed], [default] = short.encode([prompt]), own.encode([prompt]), golden_sprint.encode([prompt])
    ids = short.pipeline.tokenizer(prompt, padding="max_length", max_length=32, return_tensors="pt")
    expected = short.pipeline.text_encoder(ids.input_ids, attention_mask=ids.attention_mask)[0]
    assert plain.embeds.shape == (1, 32, 32) and default.embeds.shape == (1, 300, 32)
    assert torch.equal(plain.embeds, expected) and torch.equal(plain.mask, ids.attention_mask)
    assert not torch.equal(instructed.embeds, default.embeds)


def test_a_prompt_that_is_too_long_is_cut_and_said(golden_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    short = SanaSprint.from_pretrained(golden_folder, complex_human_instruction=False, max_sequence_length=8, **SIDE)
    short.encode(["a cat"])
    assert not caplog.text
    [text] = short.encode(["one two three four five six seven eight nine"])
    assert text.embeds.shape[1] == 8 and "cut to max_sequence_length: 8: one two" in caplog.text


def test_resolution_binning_is_the_pipelines(golden_folder: Path) -> None:
    """1000 x 900 is made at the nearest trained size and cut back; 128 x 120 latents."""
    size = {"image_width": 900, "image_height": 1000}
    sprint = SanaSprint.from_pretrained(golden_folder, use_resolution_binning=True, **size)
    [text], noise = sprint.encode(["a dog"]), sprint.noise([1])
    [picture] = sprint.decode(sprint.generate(noise, text))
    full = whole(sprint, noise, text, output_type="pil", use_resolution_binning=True, height=1000, width=900)[0]
    assert picture.size == (900, 1000) == full.size
    assert np.array_equal(np.asarray(picture), np.asarray(full))


def test_offloaded_models_are_on_the_device_only_while_they_work(
    golden_folder: Path, golden_sprint: SanaSprint, monkeypatch: pytest.MonkeyPatch
) -> None:
    sprint = SanaSprint.from_pretrained(golden_folder, offload="model", **SIDE)
    moves: list[tuple[str, str]] = []
    for name in ("text_encoder", "vae", "transformer"):
        model = getattr(sprint.pipeline, name)
        monkeypatch.setattr(
            model,
            "to",
            lambda place, name=name, move=model.to: (moves.append((name, type(place).__name__)), move(place))[1],
        )
    [text] = sprint.encode(["a bench"])
    latents = sprint.generate(sprint.noise([1]), text)
    sprint.decode(latents)
    to_device, back = "device", "str"
    assert moves == [(name, place) for name in ("text_encoder", "vae") for place in (to_device, back)]
    [expected] = golden_sprint.encode(["a bench"])
    assert torch.equal(latents, golden_sprint.generate(golden_sprint.noise([1]), expected))


def test_hidden_states_can_train_a_verifier(patched_sprint: SanaSprint) -> None:
    """They are ordinary tensors without a graph, so a connector can be trained on them."""
    [text] = patched_sprint.encode(["a star"])
    hidden = patched_sprint.prefix(patched_sprint.noise([1]), text).hidden
    connector = torch.nn.Linear(hidden.shape[-1], 2)
    connector(hidden).sum().backward()
    assert not hidden.requires_grad and connector.weight.grad is not None


def test_a_block_that_does_not_exist_is_named(patched_sprint: SanaSprint) -> None:
    [text] = patched_sprint.encode(["a star"])
    with pytest.raises(ConfigError, match="block 20 is out of range; the generator has 20 blocks, 0 to 19"):
        patched_sprint.prefix(patched_sprint.noise([1]), text, block=20)


def test_a_generator_that_runs_out_of_memory_gives_the_same_results(
    golden_folder, golden_sprint: SanaSprint, caplog: pytest.LogCaptureFixture
) -> None:
    sprint = SanaSprint.from_pretrained(golden_folder, image_width=64, image_height=64)
    [text], noise = sprint.encode(["a dog"]), sprint.noise(range(5))

    def shortage(module: torch.nn.Module, inputs: tuple) -> None:
        if len(inputs[0]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    sprint.transformer.register_forward_pre_hook(shortage)
    latents = sprint.finish(sprint.prefix(noise, text))
    torch.testing.assert_close(latents, golden_sprint.generate(noise, text), atol=1e-5, rtol=0)
    assert "out of memory with 5 candidates at once; going on with 2 (micro_batch)" in caplog.text
