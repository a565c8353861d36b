import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from tests.chaos.test_no_code import Bomb
from vhs.errors import CheckpointError
from vhs.verifiers import load_verifier
from vhs.verifiers.connector import build_connector


@pytest.fixture
def adapter(checkpoint, tmp_path):
    """A PEFT adapter with random weights, and the connector trained beside it, in the release's layout."""
    verifier = load_verifier(checkpoint("A/vhs-tiny-hidden", folder="donor"))
    torch.manual_seed(0)
    adapted = get_peft_model(
        verifier.llm, LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    )
    adapted.save_pretrained(tmp_path / "adapter")
    connector = build_connector("mlp2x_gelu", 48, 64)
    names = {f"base_model.model.model.mm_projector.{k}": v for k, v in connector.state_dict().items()}
    torch.save(names, tmp_path / "adapter" / "non_lora_trainables.bin")
    return tmp_path / "adapter", adapted.merge_and_unload(), connector


def test_an_adapter_equals_its_merged_weights(adapter, checkpoint, activations):
    folder, merged, connector = adapter
    path = checkpoint("A/vhs-tiny-hidden")
    plain, adapted = load_verifier(path), load_verifier(path, lora_weights=folder)
    found = adapted.score("a bench", activations["p0"])
    assert (found.score - plain.score("a bench", activations["p0"]).score).abs().max() > 1e-3
    plain.llm, plain.connector = merged, connector
    torch.testing.assert_close(found.score, plain.score("a bench", activations["p0"]).score, atol=1e-5, rtol=0)


def test_damaged_adapters(adapter, checkpoint, tmp_path):
    folder, _, _ = adapter
    path = checkpoint("A/vhs-tiny-hidden")
    with pytest.raises(CheckpointError, match="lora_weights: ckpts/none: no such folder"):
        load_verifier(path, lora_weights="ckpts/none")
    torch.save({"base_model.model.model.embed_tokens.weight": torch.zeros(2)}, folder / "non_lora_trainables.bin")
    with pytest.raises(CheckpointError, match="tensors outside the connector: base_model.model.model.embed_tokens"):
        load_verifier(path, lora_weights=folder)
    (folder / "adapter_config.json").unlink()
    with pytest.raises(CheckpointError, match="adapter_config.json: is missing; lora_weights: a PEFT adapter"):
        load_verifier(path, lora_weights=folder)


def test_the_connector_beside_an_adapter_is_read_as_data(adapter, checkpoint, tmp_path):
    folder, _, _ = adapter
    torch.save(
        {"base_model.model.model.mm_projector.0.weight": Bomb(tmp_path / "ran")}, folder / "non_lora_trainables.bin"
    )
    with pytest.raises(CheckpointError, match="non_lora_trainables.bin"):
        load_verifier(checkpoint("A/vhs-tiny-hidden"), lora_weights=folder)
    assert not (tmp_path / "ran").exists()


def test_adapters_that_are_not_whole_or_of_another_model(adapter, checkpoint, activations):
    folder, _, _ = adapter
    path, file = checkpoint("A/vhs-tiny-hidden"), folder / "adapter_model.safetensors"
    tensors = load_file(file)

    def refused(kept, message):
        save_file(kept, file)
        with pytest.raises(CheckpointError, match=f"lora_weights: .*{message}"):
            load_verifier(path, lora_weights=folder)

    refused({}, "has no LoRA tensors")
    refused({n: t for n, t in tensors.items() if "layers.0" in n}, "lacks 4 of 8 tensors")
    refused({**tensors, "base_model.model.other.lora_A.weight": torch.zeros(2)}, "has no place for 1 of 8 tensors")
    refused({n: t[..., :3].contiguous() for n, t in tensors.items()}, "not a usable PEFT adapter .*size mismatch")
    file.unlink()
    torch.save(tensors, folder / "adapter_model.bin")
    with pytest.raises(CheckpointError, match="adapter_model.bin: is a pickle"):
        load_verifier(path, lora_weights=folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peft_type": "PROMPT_TUNING"}, "peft_type is 'PROMPT_TUNING'; LORA is needed"),
        ({"megatron_config": {"a": 1}}, "megatron_config is not supported"),
        ({"r": 10**12}, "r is 1,000,000,000,000"),
        ({"target_modules": 3}, "not a usable PEFT adapter"),
    ],
)
def test_adapter_configurations(change, message, adapter, checkpoint):
    folder, _, _ = adapter
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | change))
    with pytest.raises(CheckpointError, match=message):
        load_verifier(checkpoint("A/vhs-tiny-hidden"), lora_weights=folder)
