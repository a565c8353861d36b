"""Every family of pipelines, tiny and random: what the adapter makes is what the pipeline's plain call makes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.generators.pipelines import BUILDERS, save
from vhs.generators.diffusers_pipeline import DiffusersPipeline, _stream
from vhs.generators.sana_sprint import SanaSprint

PROMPT = "a photo of two red dogs"
FAMILIES = list(BUILDERS)
OWN_STREAM = ("pixart_alpha", "sdxl_turbo")
"""Whose schedulers add noise on the way."""


def size(name: str) -> dict[str, int]:
    """Not square, so that height and width cannot be exchanged."""
    return {"image_width": 64, "image_height": 32} if "sana" in name else {"image_width": 24, "image_height": 16}


def guided(name: str, on: bool) -> dict[str, Any]:
    """Keys for a run with guidance, and without."""
    if name.startswith("flux"):
        keys: dict[str, Any] = {"guidance_scale": 2.0} if name == "flux_dev" else {}
        return {**keys, "pipeline_arguments": {"true_cfg_scale": 3.0, "negative_prompt": "dogs"} if on else {}}
    off = 0.0 if name == "z_image" else 1.0  # Z-Image guides from zero on
    return {"guidance_scale": 4.0 if on else off}


@dataclass
class Case:
    """A loaded family under some keys."""

    name: str
    keys: dict[str, Any]
    generator: DiffusersPipeline = field(init=False)

    def load(self, folder: Path) -> Case:
        self.generator = DiffusersPipeline.from_pretrained(folder, **size(self.name), **self.keys)
        return self

    def with_keys(self, **keys: Any) -> Case:
        """The same weights under other keys."""
        one = Case(self.name, keys)
        settings = type(self.generator.settings)(**size(self.name), **keys)
        one.generator = DiffusersPipeline(self.generator.pipeline, self.generator.description, settings)
        return one

    def paths(self) -> list[str]:
        """Every block that an image passes."""
        return [block for block in self.generator.description.paths() if "refiner" not in block]

    def plain(self, noise: torch.Tensor, output_type: str = "latent") -> Any:
        """The pipeline as anyone calls it, with one prompt and N pictures of it."""
        pipeline, steps = self.generator.pipeline, self.keys.get("num_inference_steps", 1)
        start = noise[:, 0] if noise.ndim == 5 else noise
        latents = pipeline._pack_latents(start, *start.shape) if hasattr(pipeline, "_pack_latents") else start
        streams = [_stream(one) for one in start]
        if self.name == "sana_sprint":
            streams = [torch.Generator().manual_seed(seed) for seed in range(len(noise))]
            for stream in streams:
                torch.randn(start.shape[1:], generator=stream)
        extra = dict(self.keys.get("pipeline_arguments") or {})
        if self.name == "qwen_image":
            extra = {"true_cfg_scale": self.keys["guidance_scale"], "negative_prompt": " "}
        elif "guidance_scale" in self.keys:
            extra["guidance_scale"] = self.keys["guidance_scale"]
        if self.name.startswith(("sana", "pixart")):
            extra["use_resolution_binning"] = False
        if self.name == "sana_sprint":
            extra["intermediate_timesteps"] = 1.3 if steps == 2 else None
        if self.keys.get("timesteps"):
            extra["timesteps"] = list(self.keys["timesteps"])
        height, width = self.generator.info.image_size
        made = pipeline(
            PROMPT,
            num_images_per_prompt=len(noise),
            num_inference_steps=steps,
            height=height,
            width=width,
            latents=latents,
            generator=streams,
            output_type=output_type,
            **extra,
        ).images
        return made if output_type == "pil" else self.generator._unpacked(made)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Matrices this small are slower on several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("pipelines")
    return {name: save(name, root / name) for name in FAMILIES}


@pytest.fixture(scope="session")
def loaded(folders: dict[str, Path]) -> dict[str, Case]:
    return {name: Case(name, {}).load(folder) for name, folder in folders.items()}


def grid(loaded: Case, steps: list[int], counts: list[int]) -> Iterator[tuple[Case, int]]:
    for number in steps:
        for guidance in (False, True):
            for count in counts:
                case = loaded.with_keys(num_inference_steps=number, **guided(loaded.name, guidance))
                yield case, count


def assert_exact(case: Case, count: int, exits: list[int]) -> None:
    """Whole, stopped and resumed at every block of the steps in `exits`: all are the plain call's latents."""
    [text], noise = case.generator.encode([PROMPT]), case.generator.noise(range(count))
    full = case.plain(noise)
    assert full.std() > 0.1 and torch.isfinite(full).all()
    assert torch.equal(case.generator.generate(noise, text), full)
    for step in exits:
        early = case.with_keys(**case.keys, hidden_step=step)
        for path in case.paths():
            prefix = early.generator.prefix(noise, text, path)
            tokens = case.generator.description.hidden_size(path, case.generator.info.latent_shape)
            assert prefix.hidden.shape == (count, *tokens)
            assert torch.equal(early.generator.finish(prefix), full), (path, step)
            if count > 1:
                winner = early.generator.finish(prefix[[count - 1]])
                assert (winner - full[count - 1 :]).abs().max() / full.std() < 1e-5, (path, step)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_block_resumes_to_the_plain_calls_latents(loaded: dict[str, Case], name: str) -> None:
    one, two, four = (
        loaded[name].with_keys(num_inference_steps=steps, **guided(name, guidance))
        for steps, guidance in ((1, True), (2, False), (4, True))
    )
    assert_exact(one, 3, [1])
    assert_exact(two, 3, [2])
    assert_exact(four, 1, [2])


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_every_step_and_batch(loaded: dict[str, Case], name: str) -> None:
    for case, count in grid(loaded[name], [1, 2, 4], [1, 3]):
        assert_exact(case, count, list(range(1, case.generator.info.steps + 1)))


@pytest.mark.parametrize("name", FAMILIES)
def test_pictures_are_the_plain_calls(loaded: dict[str, Case], name: str) -> None:
    case = loaded[name].with_keys(num_inference_steps=2, **guided(name, False))
    [text], noise = case.generator.encode([PROMPT]), case.generator.noise(range(2))
    pictures = case.generator.decode(case.generator.generate(noise, text))
    for made, plain in zip(pictures, case.plain(noise, "pil"), strict=True):
        assert made.size == (size(name)["image_width"], size(name)["image_height"])
        assert np.array_equal(np.asarray(made), np.asarray(plain)) and np.asarray(made).std() > 1


def samples(output: Any) -> int:
    """How many samples a candidate has in what a block returned."""
    while isinstance(output, tuple):
        output = next(entry for entry in output if entry is not None)
    return output.tensor.shape[1]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_hidden_state_is_the_conditional_half_of_the_blocks_output(loaded: dict[str, Case], name: str) -> None:
    """With guidance a pass over the prompt alone has the same hidden state as the conditional half of a guided one."""
    plain, guides = (loaded[name].with_keys(**guided(name, on)) for on in (False, True))
    [text], [other] = plain.generator.encode([PROMPT]), guides.generator.encode([PROMPT])
    noise = plain.generator.noise(range(2))
    path = plain.paths()[1]
    prefix = plain.generator.prefix(noise, text, path)
    alone = prefix.hidden
    if name in ("sana_sprint", "flux_dev"):  # guidance is an input of the network here
        return
    assert samples(prefix.state.output) == 1  # no second half: guidance is off
    torch.testing.assert_close(guides.generator.prefix(noise, other, path).hidden, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_sana_sprint_is_the_fast_class_bit_for_bit(
    folders: dict[str, Path], loaded: dict[str, Case], steps: int
) -> None:
    keys = {"num_inference_steps": steps, "guidance_scale": 3.0, "hidden_step": max(1, steps - 1)}
    sprint = SanaSprint.from_pretrained(folders["sana_sprint"], **size("sana"), **keys)
    adapter = loaded["sana_sprint"].with_keys(**keys).generator
    [text], [own] = sprint.encode([PROMPT]), adapter.encode([PROMPT])
    noise = sprint.noise([5, 6, 7])
    assert torch.equal(adapter.noise([5, 6, 7]).flatten(), noise.flatten())
    assert torch.equal(own.calls[0][0], text.embeds) and torch.equal(own.calls[0][1], text.mask)
    for block in range(sprint.info.blocks):
        one, other = sprint.prefix(noise, text, block), adapter.prefix(noise, own, block)
        assert torch.equal(one.hidden, other.hidden)
        assert torch.equal(sprint.finish(one), adapter.finish(other))
    latents = sprint.generate(noise, text)
    assert torch.equal(latents, adapter.generate(noise, own))
    for one, other in zip(sprint.decode(latents), adapter.decode(latents), strict=True):
        assert np.array_equal(np.asarray(one), np.asarray(other))


def test_one_step_of_pixart_dmd_starts_at_its_own_timestep(loaded: dict[str, Case]) -> None:
    case = loaded["pixart_alpha"].with_keys(timesteps=(400,), guidance_scale=1.0)
    assert_exact(case, 3, [1])
    other = case.with_keys(timesteps=(999,), guidance_scale=1.0).generator
    [text], noise = other.encode([PROMPT]), other.noise([1])
    assert not torch.equal(other.generate(noise, text), case.generator.generate(noise, text))


@pytest.mark.parametrize("name", OWN_STREAM)
def test_fresh_noise_belongs_to_the_candidate(loaded: dict[str, Case], name: str) -> None:
    """A candidate's picture does not depend on whom it is made beside, though its scheduler draws on the way."""
    generator = loaded[name].with_keys(num_inference_steps=3, **guided(name, False)).generator
    [text], noise = generator.encode([PROMPT]), generator.noise([4, 5, 6])
    together, alone = generator.generate(noise, text), generator.generate(noise[1:2], text)
    assert (together[1:2] - alone).abs().max() / together.std() < 1e-5
    assert torch.equal(generator.generate(noise, text), together)


@pytest.mark.parametrize("name", FAMILIES)
def test_half_precision_runs_and_resumes(folders: dict[str, Path], name: str) -> None:
    case = Case(name, {"num_inference_steps": 2, "dtype": "bfloat16", **guided(name, True)}).load(folders[name])
    [text], noise = case.generator.encode([PROMPT]), case.generator.noise(range(2))
    full = case.generator.generate(noise, text)
    assert full.dtype == torch.float32 and torch.isfinite(full).all()
    prefix = case.generator.prefix(noise, text, case.paths()[1])
    assert prefix.hidden.dtype == torch.bfloat16 and torch.equal(case.generator.finish(prefix), full)
    assert len(case.generator.decode(full)) == 2


@pytest.mark.parametrize("micro_batch", [1, 2])
def test_a_micro_batch_changes_rounding_only(loaded: dict[str, Case], micro_batch: int) -> None:
    for name in ("sana", "z_image", "sdxl_turbo", "flux_schnell"):
        case = loaded[name].with_keys(num_inference_steps=2, hidden_step=1, **guided(name, True))
        [text], noise = case.generator.encode([PROMPT]), case.generator.noise(range(3))
        whole = case.generator.generate(noise, text)
        case.generator.micro_batch = micro_batch
        prefix = case.generator.prefix(noise, text, case.paths()[-2])
        assert (case.generator.finish(prefix) - whole).abs().max() / whole.std() < 1e-5, name
        assert len(case.generator.decode(whole)) == 3


def test_blocks_on_the_way_come_from_the_same_pass(loaded: dict[str, Case]) -> None:
    for name in ("sana", "flux_schnell", "sdxl_turbo"):
        case = loaded[name].with_keys(num_inference_steps=2, **guided(name, True))
        [text], noise = case.generator.encode([PROMPT]), case.generator.noise(range(2))
        first, *_, last = case.paths()
        states, prefix = case.generator.hidden_states(noise, text, [last, first])
        assert torch.equal(states[last], prefix.hidden)
        assert torch.equal(states[first], case.generator.prefix(noise, text, first).hidden)
        assert torch.equal(case.generator.finish(prefix), case.generator.generate(noise, text))


def test_a_prod_prompt_does_no_work_twice(loaded: dict[str, Case]) -> None:
    """Six candidates pass blocks 0 and 1, guided: twelve samples; one goes on; the text is encoded once."""
    case = loaded["stable_diffusion_3"].with_keys(guidance_scale=4.0)
    pipeline, counts = case.generator.pipeline, {}

    def count(name: str) -> Any:
        return lambda module, inputs, named, output: counts.__setitem__(
            name, counts.get(name, 0) + len(named["hidden_states"] if "hidden_states" in named else named["input_ids"])
        )

    modules = {str(i): block.attn for i, block in enumerate(pipeline.transformer.transformer_blocks)}
    modules["t5"] = pipeline.text_encoder_3.encoder
    hooks = [module.register_forward_hook(count(name), with_kwargs=True) for name, module in modules.items()]
    try:
        [text] = case.generator.encode([PROMPT])
        prefix = case.generator.prefix(case.generator.noise(range(6)), text, 1)
        case.generator.finish(prefix[[3]])
    finally:
        for hook in hooks:
            hook.remove()
    assert counts == {"t5": 2, "0": 12, "1": 12, "2": 2}  # the prompt and the negative one


def test_a_stopped_call_leaves_the_pipeline_as_it_was(loaded: dict[str, Case]) -> None:
    for name in ("flux_schnell", "sdxl_turbo", "z_image"):
        case = loaded[name].with_keys(num_inference_steps=2, **guided(name, False))
        pipeline, network = case.generator.pipeline, case.generator.network
        before = {key: list(module._forward_hooks) for key, module in network.named_modules()}
        [text], noise = case.generator.encode([PROMPT]), case.generator.noise([1])
        case.generator.finish(case.generator.prefix(noise, text, case.paths()[-1]))
        assert {key: list(module._forward_hooks) for key, module in network.named_modules()} == before
        assert not any("forward" in vars(module) for module in network.modules())
        assert "encode_prompt" not in vars(pipeline) and "step" not in vars(pipeline.scheduler)
