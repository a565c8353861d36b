import json

import pytest
import torch
from safetensors.torch import load, save_file

from vhs.errors import CheckpointError
from vhs.verifiers import load_verifier, read_verifier_config
from vhs.verifiers.checkpoint import parse_tower

from .conftest import GOLDENS


def edit_tensors(folder, change):
    tensors = load((folder / "model.safetensors").read_bytes())
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def shard(folder):
    """Two shards and an index, as transformers writes them."""
    tensors = load((folder / "model.safetensors").read_bytes())
    names = sorted(tensors)
    files = {f"model-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
    for file, part in files.items():
        save_file({name: tensors[name] for name in part}, folder / file)
    weight_map = {name: file for file, part in files.items() for name in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (folder / "model.safetensors").unlink()


def one_line(error) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_config_says_what_is_read_without_weights(checkpoint):
    folder = checkpoint("A/vhs-tiny-hidden")
    (folder / "model.safetensors").unlink()
    config = read_verifier_config(folder, "hidden_7")
    assert (config.reads, config.block, config.width, config.hidden_size) == ("hidden", 7, 48, 64)
    assert (config.projector_type, config.swap, config.normalize, config.tower) == ("mlp2x_gelu", False, True, None)
    clip = read_verifier_config(checkpoint("B/vhs-tiny-clip"))
    assert (clip.reads, clip.block, clip.tower) == ("image", None, "openai/clip-vit-tiny-patch14-56")
    assert (clip.select_layer, clip.select_feature) == (-2, "patch")


def test_towers():
    assert parse_tower("hidden_19") == ("hidden", (19,)) and parse_tower("hidden") == ("hidden", ())
    assert parse_tower("latent") == parse_tower("dummy") == ("latent", ())
    assert parse_tower("openai/clip-vit-large-patch14-336") == ("image", ())
    assert parse_tower("runs/hidden_7_towers/clip") == ("image", ())
    with pytest.raises(CheckpointError, match="vision_tower: 'hidden_average' is not supported; write hidden_<block>"):
        parse_tower("hidden_average")


def test_the_runs_block_stands_where_the_file_names_none(checkpoint):
    folder = checkpoint("A/vhs-tiny-hidden", mm_vision_select_feature="patch")
    assert read_verifier_config(folder, "hidden_5").block == 5


@pytest.mark.parametrize(
    "tower, message",
    [
        ("hidden_5", "vision_tower: 'hidden_5' names block 5, but .* was trained on block 7; write hidden_7"),
        ("latent", "vision_tower: 'latent' reads latent features, but .* is a verifier of hidden features"),
        ("openai/clip-vit-large-patch14-336", "reads image features, but .* is a verifier of hidden features"),
    ],
)
def test_another_tower_than_the_checkpoints(tower, message, checkpoint):
    with pytest.raises(CheckpointError, match=message):
        read_verifier_config(checkpoint("A/vhs-tiny-hidden"), tower)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"model_type": "qwen2"}, "config.json: model_type is 'qwen2'; a verifier has one of llava_qwen, llava_qwen3"),
        ({"model_type": ...}, "config.json: model_type is None"),
        ({"mm_hidden_size": ..., "vocab_size": ...}, "config.json: mm_hidden_size, vocab_size missing"),
        ({"s2": True}, "config.json: s2: multi-scale CLIP features are not supported"),
        ({"mm_projector_type": "resampler"}, "mm_projector_type: 'resampler' is not supported; supported: linear"),
    ],
)
def test_wrong_config(changes, message, checkpoint):
    with pytest.raises(CheckpointError, match=message) as error:
        load_verifier(checkpoint("A/vhs-tiny-hidden", **changes))
    one_line(error)


def test_config_that_is_no_json(checkpoint):
    folder = checkpoint("A/vhs-tiny-hidden")
    (folder / "config.json").write_text('{"model_type": ')
    with pytest.raises(CheckpointError, match="config.json: is not valid JSON"):
        read_verifier_config(folder)
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match="config.json: is missing"):
        read_verifier_config(folder)


def test_missing_unexpected_and_misshapen_tensors_are_listed(checkpoint):
    def change(tensors):
        tensors["model.layers.9.mlp.up_proj.weight"] = tensors.pop("model.layers.1.mlp.up_proj.weight")
        tensors["model.norm.weight"] = torch.ones(3)

    folder = checkpoint("A/vhs-tiny-hidden")
    edit_tensors(folder, change)
    with pytest.raises(CheckpointError) as error:
        load_verifier(folder)
    assert one_line(error).endswith(
        "tensors do not fit config.json: missing: model.layers.1.mlp.up_proj.weight; "
        "unexpected: model.layers.9.mlp.up_proj.weight; of another shape: model.norm.weight (3,) instead of (64,)"
    )


def test_connector_of_another_type_or_width(checkpoint):
    message = r"model.mm_projector.\* \(linear\): .*missing: bias, weight; unexpected: 0.bias"
    with pytest.raises(CheckpointError, match=message):
        load_verifier(checkpoint("A/vhs-tiny-hidden", folder="a", mm_projector_type="linear"))
    with pytest.raises(CheckpointError, match=r"of another shape: 0.weight \(64, 48\) instead of \(64, 32\)"):
        load_verifier(checkpoint("A/vhs-tiny-hidden", folder="b", mm_hidden_size=32, hidden_dim=32))


def test_regression_head_in_the_weights_is_refused(checkpoint):
    folder = checkpoint("A/vhs-tiny-hidden")
    edit_tensors(folder, lambda tensors: tensors.update({"regression_head.weight": torch.zeros(1, 64)}))
    with pytest.raises(CheckpointError, match="regression_head: a regression head is not supported"):
        load_verifier(folder)


def test_a_head_beside_a_tied_embedding(checkpoint, activations):
    folder = checkpoint("A/vhs-tiny-hidden")
    expected = load_verifier(folder).score("a bench", activations["p0"])
    edit_tensors(folder, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].clone()}))
    assert torch.equal(load_verifier(folder).score("a bench", activations["p0"]).score, expected.score)
    edit_tensors(folder, lambda t: t.update({"lm_head.weight": t["lm_head.weight"] + 1}))
    with pytest.raises(CheckpointError, match="lm_head.weight differs from the embedding, but config.json ties them"):
        load_verifier(folder)


def test_shards_equal_one_file(checkpoint, activations):
    folder = checkpoint("A/vhs-tiny-hidden")
    expected = load_verifier(folder).score("a bench", activations["p0"])
    shard(folder)
    assert torch.equal(load_verifier(folder).score("a bench", activations["p0"]).score, expected.score)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="index.json: shards missing: model-00002-of-00002.safetensors; "):
        load_verifier(folder)


def test_truncated_weights(checkpoint):
    folder = checkpoint("A/vhs-tiny-hidden")
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    for damaged in (whole[:-1000], whole[:4], b"", b"\x00" * 100):
        file.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="model.safetensors: truncated or corrupt") as error:
            load_verifier(folder)
        one_line(error)


def test_pickles_are_not_read(checkpoint):
    folder = checkpoint("A/vhs-tiny-hidden")
    file = folder / "model.safetensors"
    torch.save(load(file.read_bytes()), file)
    with pytest.raises(CheckpointError, match="model.safetensors: is a pickle under another name"):
        load_verifier(folder)
    file.rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="pytorch_model.bin: is a pickle, which can run code when it is read"):
        load_verifier(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(CheckpointError, match="model.safetensors: is missing; .* run: python inference_scripts/down"):
        load_verifier(folder)


def test_folders_name_decides_nothing(checkpoint, activations):
    scores = [
        load_verifier(checkpoint("A/vhs-tiny-hidden", folder=name)).score("a bench", activations["p0"]).score
        for name in ("a", "qwen3-clip-regression", "vhs-hidden")
    ]
    assert torch.equal(scores[0], scores[1]) and torch.equal(scores[0], scores[2])


def test_a_check_finds_what_loading_would_without_reading_a_weight(checkpoint, statistics, monkeypatch):
    import safetensors.torch

    from vhs.verifiers import resolve_llava

    folder = checkpoint("A/vhs-tiny-hidden")
    edit_tensors(folder, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].clone()}))
    broken = checkpoint("C/vhs-tiny-linear", mm_projector_type="mlp2x_gelu")
    monkeypatch.setattr(safetensors.torch, "load_file", None)
    assert resolve_llava(folder, "hidden_7", **statistics).fetched(64).width == 48
    with pytest.raises(CheckpointError, match="missing: 0.bias, 0.weight, 2.bias, 2.weight; unexpected: bias, weight"):
        resolve_llava(broken).fetched(None)
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="truncated or corrupt"):
        resolve_llava(folder).fetched(None)


def test_a_check_knows_the_number_of_tokens(checkpoint):
    from vhs.verifiers import resolve_llava

    files = [GOLDENS / "A" / f"block_7_{name}_pertoken_bf16.pt" for name in ("mean", "variance")]
    resolve_llava(checkpoint("A/vhs-tiny-hidden"), "hidden_7", *files).fetched(64)
    with pytest.raises(CheckpointError, match="statistics of 64 tokens; the hidden states have 1024"):
        resolve_llava(checkpoint("A/vhs-tiny-hidden", folder="again"), "hidden_7", *files).fetched(1024)
