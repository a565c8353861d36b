"""Damaged checkpoints answer with one line that names the file; weights that do not fit are not loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vhs.config.run import GeneratorKeys
from vhs.errors import CheckpointError
from vhs.generators import resolve_generator
from vhs.generators.sana_sprint import SanaSprint

SIDE = {"image_width": 64, "image_height": 64}


def check(folder: Path) -> None:
    """What a run does before it loads a generator."""
    resolve_generator(GeneratorKeys(ckpt=str(folder), **SIDE), "cpu", "float32").fetched()


@pytest.fixture
def folder(golden_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(golden_folder, tmp_path / "generator"))


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def cut_header(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:50])


def as_pickle(file: Path) -> None:
    torch.save(load_file(file), file)


def only_a_bin(file: Path) -> None:
    torch.save(load_file(file), file.with_name("diffusion_pytorch_model.bin"))
    file.unlink()


def as_pointer(file: Path) -> None:
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


@pytest.mark.parametrize(
    "component, damage, message",
    [
        (
            "transformer/diffusion_pytorch_model",
            truncate,
            r"truncated or corrupt \(incomplete metadata, file not fully covered\)",
        ),
        ("vae/diffusion_pytorch_model", cut_header, r"truncated or corrupt \(invalid header length\)"),
        ("text_encoder/model", Path.unlink, "model.safetensors: is missing; .* inference_scripts/download.py"),
        ("vae/diffusion_pytorch_model", as_pickle, "is a pickle under another name; safetensors is expected"),
        ("vae/diffusion_pytorch_model", only_a_bin, "diffusion_pytorch_model.bin: is a pickle, which can run code"),
        ("transformer/diffusion_pytorch_model", as_pointer, "is a Git LFS pointer"),
    ],
)
def test_damaged_weights_are_named_before_anything_loads(
    folder: Path, component: str, damage: Callable[[Path], None], message: str
) -> None:
    damage(folder / f"{component}.safetensors")
    for attempt in (check, lambda folder: SanaSprint.from_pretrained(folder, **SIDE)):
        with pytest.raises(CheckpointError, match=message) as caught:
            attempt(folder)
        assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_sharded_weights_load_and_a_missing_shard_is_named(folder: Path, golden_sprint: SanaSprint) -> None:
    golden_sprint.pipeline.transformer.save_pretrained(folder / "transformer", max_shard_size="500KB")
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").unlink(missing_ok=True)
    sprint = SanaSprint.from_pretrained(folder, **SIDE)
    [text], noise = sprint.encode(["a"]), sprint.noise([0])
    assert torch.equal(sprint.generate(noise, text), golden_sprint.generate(noise, text))
    shard = sorted((folder / "transformer").glob("*.safetensors"))[-1]
    shard.unlink()
    with pytest.raises(CheckpointError, match=f"shards missing: {shard.name}"):
        check(folder)


@pytest.mark.parametrize("component", ["transformer", "vae"])
def test_missing_and_unexpected_tensors_are_listed(folder: Path, component: str) -> None:
    file = folder / component / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    name = sorted(tensors)[0]
    save_file({key: value for key, value in tensors.items() if key != name}, file)
    with pytest.raises(CheckpointError, match=f"{component}: missing keys: {name}"):
        SanaSprint.from_pretrained(folder, **SIDE)
    save_file({**tensors, "stray.weight": torch.zeros(1)}, file)
    with pytest.raises(CheckpointError, match=f"{component}: unexpected keys: stray.weight"):
        SanaSprint.from_pretrained(folder, **SIDE)


def test_a_text_encoder_without_a_tensor(folder: Path) -> None:
    file = folder / "text_encoder" / "model.safetensors"
    tensors = load_file(file)
    tensors.pop("layers.1.mlp.up_proj.weight")
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="text_encoder: missing keys: layers.1.mlp.up_proj.weight"):
        SanaSprint.from_pretrained(folder, **SIDE)


def test_weights_of_another_width(folder: Path) -> None:
    config = folder / "transformer" / "config.json"
    config.write_text(
        json.dumps({**json.loads(config.read_text()), "num_attention_heads": 12, "cross_attention_dim": 96})
    )
    with pytest.raises(CheckpointError, match="transformer: not a usable SanaTransformer2DModel") as caught:
        SanaSprint.from_pretrained(folder, **SIDE)
    assert "\n" not in str(caught.value)


def test_a_missing_tokenizer(folder: Path) -> None:
    shutil.rmtree(folder / "tokenizer")
    with pytest.raises(CheckpointError, match="tokenizer: has neither tokenizer.json nor tokenizer.model"):
        check(folder)


def test_a_tokenizer_that_takes_no_text(folder: Path) -> None:
    file = folder / "tokenizer" / "tokenizer.json"
    values = json.loads(file.read_text())
    values["post_processor"]["single"][0] = {"SpecialToken": {"id": "<gone>", "type_id": 0}}
    file.write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="tokenizer: not a usable AutoTokenizer") as caught:
        SanaSprint.from_pretrained(folder, **SIDE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_low_precision_stays_near_float32(golden_folder: Path, golden_sprint: SanaSprint, dtype: str) -> None:
    sprint = SanaSprint.from_pretrained(golden_folder, dtype=dtype, **SIDE)
    [text], [reference] = sprint.encode(["a red dog"]), golden_sprint.encode(["a red dog"])
    noise = sprint.noise([1, 2])
    assert sprint.transformer.dtype == sprint.prefix(noise, text).hidden.dtype == getattr(torch, dtype)
    assert sprint.pipeline.text_encoder.dtype == sprint.pipeline.vae.dtype == torch.bfloat16
    latents = sprint.generate(noise, text)
    assert latents.dtype == torch.float32
    assert (latents - golden_sprint.generate(noise, reference)).abs().max() < 0.15
