"""A run is checked against a generator's JSON files before any weight is read."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vhs.errors import CheckpointError, ConfigError
from vhs.generators import GeneratorSettings, check_generator, load_generator, read_generator_info
from vhs.generators.architecture import SHIPPED, shipped_architecture

RELEASE = "Efficient-Large-Model/Sana_Sprint_1.6B_1024px_diffusers"
SIDE = {"image_width": 64, "image_height": 64}


@pytest.fixture
def folder(golden_folder: Path, tmp_path: Path) -> Path:
    """A copy of the golden's generator, to be damaged."""
    return Path(shutil.copytree(golden_folder, tmp_path / "generator"))


def edit(file: Path, **values: Any) -> None:
    content = json.loads(file.read_text())
    content.update(values)
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))


def run(folder: Path | str, **keys: Any) -> SimpleNamespace:
    """What a run's configuration looks like from here."""
    return SimpleNamespace(ckpt=str(folder), generator="Sana-Sprint", **{**SIDE, **keys})


def test_sizes_with_and_without_patches(golden_folder: Path, patched_folder: Path) -> None:
    plain, patched = (check_generator(run(folder)) for folder in (golden_folder, patched_folder))
    assert (plain.blocks, plain.width, plain.tokens, plain.latent_shape) == (10, 48, 64, (8, 8, 8))
    assert (patched.blocks, patched.width, patched.tokens, patched.latent_shape) == (20, 32, 16, (16, 8, 8))
    assert plain.image_size == (64, 64) and (plain.steps, plain.step) == (1, 1)


def test_the_release_is_known_without_a_network() -> None:
    assert list(SHIPPED) == [RELEASE]
    info = read_generator_info(shipped_architecture(RELEASE))
    assert (info.blocks, info.width, info.tokens, info.latent_shape) == (20, 2240, 1024, (32, 32, 32))


def test_width_and_height_may_differ(golden_folder: Path) -> None:
    info = check_generator(run(golden_folder, image_width=96))
    assert info.latent_shape == (8, 8, 12) and info.image_size == (64, 96) and info.tokens == 96


def test_a_loaded_generator_says_the_same(golden_folder: Path) -> None:
    config = run(golden_folder, num_inference_steps=3, hidden_step=2)
    assert load_generator(config).info == check_generator(config)


def test_blocks_and_widths_are_checked(golden_folder: Path) -> None:
    info = check_generator(run(golden_folder))
    info.require_block(9)
    info.require_width(48)
    with pytest.raises(ConfigError, match=r"^vision_tower: block 10 is out of range; .* 10 blocks, 0 to 9$"):
        info.require_block(10)
    with pytest.raises(ConfigError, match="width 2240, the generator's have 48"):
        info.require_width(2240)


@pytest.mark.parametrize(
    "keys, message",
    [
        ({"num_inference_steps": 9}, "num_inference_steps: 9 is not a whole number from 1 to 8"),
        ({"num_inference_steps": 0}, "num_inference_steps: 0 is not"),
        ({"num_inference_steps": 2, "hidden_step": 3}, "hidden_step: 3 is not a whole number from 1 to 2"),
        ({"num_inference_steps": 2, "intermediate_timesteps": 1.6}, "intermediate_timesteps: 1.6 is not between"),
        ({"micro_batch": 0}, "micro_batch: 0 is not a whole number of at least 1"),
        ({"dtype": "int8"}, "dtype: 'int8' is not one of bfloat16, float16, float32"),
        ({"offload": "disk"}, "offload: 'disk' is not one of none, model"),
        ({"device": "tpu"}, "device: tpu is not known"),
        ({"image_width": 100}, "image_width: 100 is not a multiple of 32; use 96 or 128"),
        ({"image_height": 8}, "image_height: 8 is not a multiple of 32; use 32"),
        ({"generator": "Flux"}, "generator: 'Flux' is not known; the only one is Sana-Sprint"),
    ],
)
def test_impossible_keys_are_refused(golden_folder: Path, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_generator(SimpleNamespace(**{**vars(run(golden_folder)), **keys}))


def test_cuda_that_is_not_there(golden_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ConfigError, match="device: cuda was asked for but torch sees none here; use device: cpu"):
        check_generator(run(golden_folder, device="cuda"))
    settings = GeneratorSettings.from_config(SimpleNamespace(device="auto", dtype="auto"))
    assert (settings.device, settings.dtype) == ("cpu", "float32")


def test_binning_needs_a_generator_for_1024_pixels(patched_folder: Path) -> None:
    with pytest.raises(ConfigError, match="use_resolution_binning: needs .*sample_size 32.*this one has 8"):
        check_generator(run(patched_folder, use_resolution_binning=True))


@pytest.mark.parametrize(
    "file, values, message",
    [
        ("model_index.json", {"_class_name": "FluxPipeline"}, "is a FluxPipeline; the generator Sana-Sprint needs"),
        ("transformer/config.json", {"guidance_embeds": False}, "guidance_embeds is false"),
        ("transformer/config.json", {"num_layers": ...}, "transformer/config.json: has no key num_layers"),
        ("scheduler/scheduler_config.json", {"prediction_type": "epsilon"}, "prediction_type is epsilon"),
    ],
)
def test_another_kind_of_checkpoint(folder: Path, file: str, values: dict[str, Any], message: str) -> None:
    edit(folder / file, **values)
    with pytest.raises(CheckpointError, match=message):
        check_generator(run(folder))


def test_broken_or_missing_json(folder: Path) -> None:
    (folder / "vae" / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="vae/config.json: is not valid JSON"):
        check_generator(run(folder))
    (folder / "model_index.json").unlink()
    with pytest.raises(CheckpointError, match="model_index.json: is missing"):
        check_generator(run(folder))


def test_no_such_folder() -> None:
    with pytest.raises(CheckpointError, match="ckpt: ckpts/nowhere/at_all: no such folder"):
        check_generator(run("ckpts/nowhere/at_all"))


def test_importing_generators_loads_no_torch() -> None:
    code = "import sys, vhs.generators; sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0
