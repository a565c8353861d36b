"""What a pipeline's files tell before a weight is read, what is refused, and families that are not named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.chaos.damage import Bomb
from tests.generators.pipelines import save
from vhs.errors import CheckpointError, ConfigError
from vhs.generators import families
from vhs.generators.architecture import shipped_architecture
from vhs.generators.call_arguments import PipelineSettings, build_scheduler, call_arguments
from vhs.generators.description import describe
from vhs.generators.diffusers_pipeline import DiffusersPipeline, pipeline_info
from vhs.generators.families import Family

SIZE = {"image_width": 24, "image_height": 16}
SQUARE = {"image_width": 16, "image_height": 16}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A family's tiny pipeline on disk, made once."""
    root = tmp_path_factory.mktemp("described")
    return cache(lambda name: save(name, root / name))


@pytest.fixture()
def json_only(folder: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """A pipeline's folder without any weights: what can be refused now is refused before they load."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(folder(name), tmp_path / name, ignore=shutil.ignore_patterns("*.safetensors")))

    return copy


def refusal(place: Path, **settings: Any) -> str:
    """The one line that settings get."""
    description, keys = describe(place), PipelineSettings(**{**SIZE, **settings})
    with pytest.raises((ConfigError, CheckpointError)) as caught:
        call_arguments(description, keys)
        build_scheduler(description, keys)
        pipeline_info(description, keys)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_block_that_does_not_exist_names_the_lists_and_the_nearest(json_only: Callable[[str], Path]) -> None:
    flux = json_only("flux_schnell")
    assert refusal(flux, block="transformer_blocks.7") == (
        "block: FluxPipeline has no block transformer_blocks.7; it has transformer_blocks.0 to .1 (2 blocks); "
        "single_transformer_blocks.0 to .1 (2 blocks)"
    )
    assert "did you mean single_transformer_blocks" in refusal(flux, block="single_transformers_block.1")
    for wrong in ("transformer_blocks", "transformer_blocks.", "transformer_blocks.0.attn", "norm_out"):
        assert "has no block" in refusal(flux, block=wrong)


def test_short_forms_mean_the_familys_own_list(folder: Callable[[str], Path]) -> None:
    short = {"flux_schnell": "transformer_blocks.1", "z_image": "layers.1", "sana": "transformer_blocks.1"}
    assert {name: describe(folder(name)).path(1) for name in short} == short
    flux, unet = describe(folder("flux_schnell")), describe(folder("sdxl_turbo"))
    assert [flux.path(n) for n in (0, 3)] == ["transformer_blocks.0", "single_transformer_blocks.1"]
    assert unet.path(0) == "mid_block" and unet.path(3) == "up_blocks.2" and unet.number("down_blocks.1") is None
    with pytest.raises(
        ConfigError, match="block 4 is out of range; FluxPipeline has 4 blocks from transformer_blocks.0"
    ):
        flux.path(4)


def test_sizes_follow_from_json_files(json_only: Callable[[str], Path]) -> None:
    unet = describe(json_only("sdxl_turbo"))
    info = pipeline_info(unet, PipelineSettings(**SIZE, block="mid_block", num_inference_steps=3, hidden_step=2))
    assert (info.latent_shape, info.tokens, info.width) == ((4, 8, 12), 6, 16)
    assert (info.steps, info.step, info.image_size) == (3, 2, (16, 24))
    assert unet.hidden_size("up_blocks.2", info.latent_shape) == (96, 8)
    packed = pipeline_info(describe(json_only("qwen_image")), PipelineSettings(**SIZE))
    assert (packed.latent_shape, packed.tokens, packed.width, packed.blocks) == ((4, 8, 12), 24, 32, 3)


@pytest.mark.parametrize(
    ("repository", "side", "hidden", "latent", "blocks", "parameters"),
    [
        ("black-forest-labs/FLUX.1-schnell", 1024, (4096, 3072), (16, 128, 128), 57, 11_891_178_560),
        ("stabilityai/stable-diffusion-3.5-large-turbo", 1024, (4096, 2432), (16, 128, 128), 38, 8_056_627_520),
        ("PixArt-alpha/PixArt-Alpha-DMD-XL-2-512x512", 512, (1024, 1152), (4, 64, 64), 28, 610_856_096),
        ("Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers", 1024, (1024, 2240), (32, 32, 32), 20, 1_604_641_952),
    ],
)
def test_the_papers_generators_are_known_without_a_network(
    repository: str,
    side: int,
    hidden: tuple[int, int],
    latent: tuple[int, int, int],
    blocks: int,
    parameters: int,
) -> None:
    description = describe(shipped_architecture(repository))
    info = pipeline_info(description, PipelineSettings(image_width=side, image_height=side))
    assert ((info.tokens, info.width), info.latent_shape, info.blocks) == (hidden, latent, blocks)
    assert sum(parameter.numel() for parameter in description.network.parameters()) == parameters


@pytest.mark.parametrize(
    ("name", "settings", "line"),
    [
        ("flux_schnell", {"guidance_scale": 3.5}, "guidance_scale: has no effect"),
        ("flux_schnell", {"timesteps": (400,)}, "timesteps: FluxPipeline does not take timesteps"),
        ("sana", {"timesteps": (400, 200)}, "timesteps: 2 steps are given, but num_inference_steps is 1"),
        ("sana", {"use_resolution_binning": True}, "use_resolution_binning: works with generator: Sana-Sprint only"),
        ("sana", {"image_height": 33}, "image_height: 33 is not a multiple of 8; use 32 or 40"),
        ("sdxl_turbo", {"max_sequence_length": 77}, "max_sequence_length: StableDiffusionXLPipeline does not take"),
        ("sdxl_turbo", {"image_width": 26}, "image_width: 26 is not a multiple of 8; use 24 or 32"),
        ("sana", {"pipeline_arguments": {"negativ_prompt": "x"}}, "did you mean negative_prompt"),
        ("sana", {"pipeline_arguments": {"height": 64}}, "pipeline_arguments: height is set by image_height"),
        ("sana", {"pipeline_arguments": {"prompt_embeds": 1}}, "prompt_embeds is not a setting of a run"),
        (
            "sana",
            {"scheduler": "HeunDiscreteScheduler"},
            "scheduler: HeunDiscreteScheduler calls the network more than",
        ),
        ("sana", {"scheduler": "DDPMSchedular"}, "did you mean DDPMScheduler"),
        ("sana", {"scheduler": {"flow_shif": 2.0}}, "scheduler: DPMSolverMultistepScheduler has no value flow_shif"),
        ("pixart_alpha", {"timesteps": (10, 400), "num_inference_steps": 2}, "timesteps: DDPMScheduler refuses"),
        ("pixart_alpha", {"num_inference_steps": 2000}, "num_inference_steps: DDPMScheduler refuses 2000"),
    ],
)
def test_what_a_pipeline_does_not_take_is_refused_before_weights_load(
    json_only: Callable[[str], Path], name: str, settings: dict[str, Any], line: str
) -> None:
    size = {"image_width": 64, "image_height": 32} if name == "sana" else {}
    assert line in refusal(json_only(name), **{**size, **settings})


def test_another_scheduler_keeps_the_configuration_but_for_the_values_that_are_named(
    json_only: Callable[[str], Path],
) -> None:
    sana = describe(json_only("sana"))
    keys = {"image_width": 64, "image_height": 32, "num_inference_steps": 4}
    own = build_scheduler(sana, PipelineSettings(**keys))
    named = build_scheduler(sana, PipelineSettings(**keys, scheduler={"flow_shift": 1.5}))
    other = build_scheduler(sana, PipelineSettings(**keys, scheduler="UniPCMultistepScheduler"))
    assert (own.config.flow_shift, named.config.flow_shift, other.config.flow_shift) == (3.0, 1.5, 3.0)
    assert type(named) is type(own) and type(other).__name__ == "UniPCMultistepScheduler"
    assert not torch.equal(own.timesteps, named.timesteps)


def test_only_text_to_image_pipelines_of_diffusers_are_taken(json_only: Callable[[str], Path]) -> None:
    place = json_only("stable_diffusion_3")
    index = json.loads((place / "model_index.json").read_text())
    for name, line in (
        ("StableDiffusion3Img2ImgPipeline", "is not text-to-image (its __call__ takes image)"),
        ("LTXPipeline", "is not text-to-image"),
        ("MyPipeline", "is no pipeline of the installed diffusers; code of a repository is not run"),
    ):
        (place / "model_index.json").write_text(json.dumps({**index, "_class_name": name}))
        with pytest.raises(CheckpointError, match="model_index.json") as caught:
            describe(place)
        assert line in str(caught.value)
    (place / "model_index.json").write_text(json.dumps({**index, "transformer": ["my_code", "MyTransformer"]}))
    with pytest.raises(CheckpointError, match="transformer is a MyTransformer of my_code"):
        describe(place).network


def test_weights_that_are_missing_or_of_another_network_are_named(
    folder: Callable[[str], Path], tmp_path: Path
) -> None:
    place = Path(shutil.copytree(folder("sana"), tmp_path / "sana"))
    size = {"image_width": 64, "image_height": 32}
    config = json.loads((place / "transformer" / "config.json").read_text())
    (place / "transformer" / "config.json").write_text(json.dumps({**config, "num_layers": 4}))
    with pytest.raises(CheckpointError, match="missing keys: transformer_blocks.3"):
        DiffusersPipeline.from_pretrained(place, **size)
    (place / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"vae/diffusion_pytorch_model.safetensors: is missing"):
        DiffusersPipeline.from_pretrained(place, **size)


def test_a_network_from_another_folder_may_be_a_bin_file(folder: Callable[[str], Path], tmp_path: Path) -> None:
    """PixArt-alpha-DMD publishes its transformer and scheduler alone, the tensors in a `.bin` file."""
    whole = folder("pixart_alpha")
    network = Path(shutil.copytree(whole, tmp_path / "dmd", ignore=shutil.ignore_patterns("vae", "text_encoder")))
    weights = network / "transformer" / "diffusion_pytorch_model.safetensors"
    own = DiffusersPipeline.from_pretrained(whole, **SIZE)
    torch.save(own.network.state_dict(), weights.with_suffix(".bin"))
    weights.unlink()
    rest = Path(shutil.copytree(whole, tmp_path / "rest", ignore=shutil.ignore_patterns("diffusion_pytorch*")))
    shutil.copytree(whole / "vae", rest / "vae", dirs_exist_ok=True)
    joined = DiffusersPipeline.from_pretrained(rest, network_ckpt=network, **SIZE)
    [text], noise = own.encode(["a red star"]), own.noise([1])
    assert torch.equal(joined.generate(noise, text), own.generate(noise, text))
    torch.save({"x": Bomb(tmp_path / "ran")}, weights.with_suffix(".bin"))
    with pytest.raises(CheckpointError, match="diffusion_pytorch_model.bin: not a usable file of the weights"):
        DiffusersPipeline.from_pretrained(rest, network_ckpt=network, **SIZE)
    assert not (tmp_path / "ran").exists(), "what a pickle holds is not run"
    with pytest.raises(CheckpointError, match="network_ckpt is a SanaPipeline, ckpt is a PixArtAlphaPipeline"):
        DiffusersPipeline.from_pretrained(rest, network_ckpt=folder("sana"), **SIZE)


def test_a_family_that_is_not_named_runs_or_says_what_to_add(
    folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = DiffusersPipeline.from_pretrained(folder("auraflow"), num_inference_steps=2, guidance_scale=3.0, **SIZE)
    [text], noise = generator.encode(["a red star"]), generator.noise([1, 2])
    full = generator.generate(noise, text)
    prefix = generator.prefix(noise, text, 1)
    assert prefix.block == "joint_transformer_blocks.1" and prefix.hidden.shape == (2, 24, 16)
    assert torch.equal(generator.finish(prefix), full)
    with pytest.raises(CheckpointError, match="add joint .* to the pipeline's family in vhs/generators/families.py"):
        generator.prefix(noise, text, "single_transformer_blocks.0")
    lists = ("joint_transformer_blocks", "single_transformer_blocks")
    monkeypatch.setitem(families.FAMILIES, "AuraFlowPipeline", Family(blocks=lists, stream=1, joint="last"))
    named = DiffusersPipeline.from_pretrained(folder("auraflow"), num_inference_steps=2, guidance_scale=3.0, **SIZE)
    prefix = named.prefix(noise, text, "single_transformer_blocks.0")
    assert prefix.hidden.shape == (2, 24, 16) and torch.equal(named.finish(prefix), full)


def test_blocks_that_are_read_again_are_found_out(
    folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Going on from block 2 alone would give other pictures: the first winner of a family that is not named is
    checked."""
    generator = DiffusersPipeline.from_pretrained(folder("hunyuan_dit"), **SQUARE)
    [text], noise = generator.encode(["a red star"]), generator.noise([1, 2])
    with pytest.raises(CheckpointError, match="name their list in read_again of the pipeline's family"):
        generator.finish(generator.prefix(noise, text, 2))
    monkeypatch.setitem(families.FAMILIES, "HunyuanDiTPipeline", Family(blocks=("blocks",), read_again=("blocks",)))
    named = DiffusersPipeline.from_pretrained(folder("hunyuan_dit"), **SQUARE)
    full = named.generate(noise, text)
    for block in range(4):
        assert torch.equal(named.finish(named.prefix(noise, text, block)), full), block
