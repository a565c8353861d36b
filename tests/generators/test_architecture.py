"""A run is checked against a generator's JSON files before any weight is read."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vhs.config.run import GeneratorKeys
from vhs.errors import CheckpointError, ConfigError
from vhs.generators import GeneratorSpec, resolve_generator
from vhs.generators.architecture import SHIPPED, read_generator_info, shipped_architecture

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


def resolved(folder: Path | str, **keys: Any) -> GeneratorSpec:
    """The generator that these keys name."""
    return resolve_generator(GeneratorKeys(ckpt=str(folder), **{**SIDE, **keys}), "cpu", "float32").fetched()


def test_sizes_with_and_without_patches(golden_folder: Path, patched_folder: Path) -> None:
    plain, patched = (resolved(folder).info for folder in (golden_folder, patched_folder))
    assert (plain.blocks, plain.width, plain.tokens, plain.latent_shape) == (10, 48, 64, (8, 8, 8))
    assert (patched.blocks, patched.width, patched.tokens, patched.latent_shape) == (20, 32, 16, (16, 8, 8))
    assert plain.image_size == (64, 64) and (plain.steps, plain.step) == (1, 1)


def test_the_release_is_known_without_a_network() -> None:
    assert RELEASE in SHIPPED
    info = read_generator_info(shipped_architecture(RELEASE))
    assert (info.blocks, info.width, info.tokens, info.latent_shape) == (20, 2240, 1024, (32, 32, 32))


def test_width_and_height_may_differ(golden_folder: Path) -> None:
    info = resolved(golden_folder, image_width=96).info
    assert info.latent_shape == (8, 8, 12) and info.image_size == (64, 96) and info.tokens == 96


def test_a_loaded_generator_says_the_same(golden_folder: Path) -> None:
    spec = resolved(golden_folder, num_inference_steps=3, hidden_step=2)
    assert spec.load().info == spec.info


def test_blocks_and_widths_are_checked(golden_folder: Path) -> None:
    info = resolved(golden_folder).info
    info.require_block(9)
    info.require_width(48)
    with pytest.raises(ConfigError, match=r"^vision_tower: block 10 is out of range; .* 10 blocks, 0 to 9$"):
        info.require_block(10)
    with pytest.raises(ConfigError, match="width 2240, the generator's have 48"):
        info.require_width(2240)


@pytest.mark.parametrize(
    "keys, message",
    [
        ({"image_width": 100}, "image_width: 100 is not a multiple of 32; use 96 or 128"),
        ({"image_height": 8}, "image_height: 8 is not a multiple of 32; use 32"),
    ],
)
def test_impossible_sizes_are_refused(golden_folder: Path, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolved(golden_folder, **keys)


def test_binning_needs_a_generator_for_1024_pixels(patched_folder: Path) -> None:
    with pytest.raises(ConfigError, match="use_resolution_binning: needs .*sample_size 32.*this one has 8"):
        resolved(patched_folder, use_resolution_binning=True).info


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
        resolved(folder).info


def test_broken_or_missing_json(folder: Path) -> None:
    (folder / "vae" / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="vae/config.json: is not valid JSON"):
        resolved(folder).info
    (folder / "model_index.json").unlink()
    with pytest.raises(CheckpointError, match="model_index.json: is missing"):
        resolved(folder).info


def test_no_such_folder() -> None:
    with pytest.raises(CheckpointError, match="ckpt: ckpts/nowhere/at_all: no such folder"):
        resolved("ckpts/nowhere/at_all").info


def test_importing_generators_loads_no_torch() -> None:
    code = "import sys, vhs.generators; sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0
