"""LoRA adapters on the generator: the same as diffusers' own loading, and as adding B A to the weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from vhs.config.run import GeneratorKeys
from vhs.errors import CheckpointError
from vhs.generators import resolve_generator
from vhs.generators.sana_sprint import SanaSprint

SIDE = {"image_width": 64, "image_height": 64}


@pytest.fixture(scope="module")
def adapter(golden_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `SanaSprintPipeline.save_lora_weights` writes it: rank 2, alpha 4 (so scale 2), random."""
    from diffusers import SanaSprintPipeline

    folder = tmp_path_factory.mktemp("lora")
    transformer = SanaSprint.from_pretrained(golden_folder, **SIDE).transformer
    transformer.add_adapter(LoraConfig(r=2, lora_alpha=4, target_modules=["to_q", "to_v"]))
    generator = torch.Generator().manual_seed(0)
    for name, parameter in transformer.named_parameters():
        if "lora_" in name:
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    SanaSprintPipeline.save_lora_weights(
        folder,
        transformer_lora_layers=get_peft_model_state_dict(transformer),
        transformer_lora_adapter_metadata=transformer.peft_config["default"].to_dict(),
    )
    return folder


@pytest.mark.parametrize("file_name", ["", "pytorch_lora_weights.safetensors"])
def test_an_adapter_adds_its_product_to_the_weights(
    golden_folder: Path, golden_sprint: SanaSprint, adapter: Path, file_name: str
) -> None:
    sprint = SanaSprint.from_pretrained(golden_folder, sana_lora_weights=str(adapter / file_name), **SIDE)
    [text], noise = sprint.encode(["a dog"]), sprint.noise([1, 2])
    latents = sprint.generate(noise, text)
    assert torch.equal(sprint.finish(sprint.prefix(noise, text, block=4)), latents)
    assert (latents - golden_sprint.generate(noise, text)).abs().max() > 1e-2
    merged = SanaSprint.from_pretrained(golden_folder, **SIDE)
    low_rank = load_file(adapter / "pytorch_lora_weights.safetensors")
    for name in [name for name in low_rank if "lora_A" in name]:
        weight = merged.transformer.get_parameter(name.removeprefix("transformer.").replace(".lora_A", ""))
        weight.data += 2 * low_rank[name.replace("lora_A", "lora_B")] @ low_rank[name]
    torch.testing.assert_close(latents, merged.generate(noise, text), atol=1e-4, rtol=0)


def test_an_adapter_of_another_model_is_refused(
    golden_folder: Path, patched_folder: Path, adapter: Path, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="sana_lora_weights: .* not a usable LoRA of this transformer"):
        SanaSprint.from_pretrained(patched_folder, sana_lora_weights=str(adapter), **SIDE)
    tensors = load_file(adapter / "pytorch_lora_weights.safetensors")
    stray = tmp_path / "stray.safetensors"
    save_file({name.replace("transformer.", "unet."): tensor for name, tensor in tensors.items()}, stray)
    with pytest.raises(CheckpointError, match=f"0 of its {len(tensors)} tensors fit this transformer"):
        SanaSprint.from_pretrained(golden_folder, sana_lora_weights=str(stray), **SIDE)


def test_what_is_not_an_adapter_is_said_before_loading(golden_folder: Path, adapter: Path, tmp_path: Path) -> None:
    def check(path: Path) -> None:
        keys = GeneratorKeys(ckpt=str(golden_folder), sana_lora_weights=str(path), **SIDE)
        resolve_generator(keys, "cpu", "float32").fetched()

    check(adapter)
    with pytest.raises(CheckpointError, match="sana_lora_weights: .*/nowhere: no such folder"):
        check(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="has no safetensors file; name the adapter's file"):
        check(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="an adapter saved by peft"):
        check(tmp_path)
    torch.save({}, tmp_path / "lora.bin")
    with pytest.raises(CheckpointError, match="lora.bin: is a .bin file; safetensors is expected"):
        check(tmp_path / "lora.bin")


def test_an_adapter_that_is_not_whole_is_said_before_loading(
    golden_folder: Path, adapter: Path, tmp_path: Path
) -> None:
    tensors = load_file(adapter / "pytorch_lora_weights.safetensors")
    file = tmp_path / "lora.safetensors"

    def refused(kept: dict[str, torch.Tensor], message: str, **metadata: str) -> None:
        save_file(kept, file, metadata=metadata or None)
        keys = GeneratorKeys(ckpt=str(golden_folder), sana_lora_weights=str(file), **SIDE)
        with pytest.raises(CheckpointError, match=message):
            resolve_generator(keys, "cpu", "float32").fetched()

    refused({}, "has no LoRA tensors; it would change nothing")
    refused({"transformer.proj_out.weight": torch.zeros(2)}, "has no LoRA tensors")
    refused({n: t for n, t in tensors.items() if "lora_A" in n}, "is there without transformer.*lora_B")
    refused(
        tensors, "megatron_config is not supported", lora_adapter_metadata='{"transformer.megatron_config": {"a": 1}}'
    )


def test_an_adapter_with_half_the_layers(golden_folder: Path, adapter: Path, tmp_path: Path, caplog) -> None:
    """It may be meant, and is told."""
    file, whole = tmp_path / "lora.safetensors", adapter / "pytorch_lora_weights.safetensors"
    save_file({n: t for n, t in load_file(whole).items() if "attn1.to_q" in n or ".0." in n}, file)
    SanaSprint.from_pretrained(golden_folder, sana_lora_weights=str(file), **SIDE)
    assert "in 1 blocks only" in caplog.text
