import json

import pytest
import torch
from safetensors.torch import load_file

from vhs.verifiers import load_verifier, read_verifier_config, save_verifier
from vhs.verifiers.checkpoint import read_tensors
from vhs.verifiers.connector import build_connector
from vhs.verifiers.language_model import load_tokenizer
from vhs.verifiers.llava import load_parts

NAMES = ["A/vhs-tiny-hidden", "B/vhs-tiny-clip", "C/vhs-qwen3-tiny", "C/vhs-tiny-untied", "C/vhs-tiny-norm_mlp2x_gelu"]


def save_again(source, target):
    config = read_verifier_config(source)
    llm, connector = load_parts(config, read_tensors(source))
    return save_verifier(
        target, llm, connector, load_tokenizer(source),
        vision_tower=config.tower or f"hidden_{config.block}", projector_type=config.projector_type,
        width=config.width, swap=config.swap, normalize=config.normalize,
    )  # fmt: skip


@pytest.mark.parametrize("name", [*NAMES, "unnormalised"])
def test_what_we_write_is_what_the_release_wrote(name, checkpoint, tmp_path):
    source = checkpoint("A/vhs-tiny-hidden", mm_vision_normalize=False) if name == "unnormalised" else checkpoint(name)
    saved = save_again(source, tmp_path / "saved")
    assert sorted(file.name for file in saved.iterdir()) == sorted(file.name for file in source.iterdir())
    assert (saved / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()
    assert (saved / "merges.txt").read_text() == (source / "merges.txt").read_text()
    for file in source.glob("*.json"):
        if file.name != "tokenizer.json":
            assert json.loads((saved / file.name).read_text()) == json.loads(file.read_text()), file.name


def test_a_saved_verifier_scores_the_same(checkpoint, activations, tmp_path):
    source = checkpoint("A/vhs-tiny-hidden")
    saved = save_again(source, tmp_path / "saved")
    scores = [load_verifier(folder).score("a bench", activations["p0"]).score for folder in (source, saved)]
    assert torch.equal(*scores)


def test_a_trained_verifier_is_cast_and_replaces_only_its_own_files(checkpoint, activations, tmp_path):
    verifier = load_verifier(checkpoint("A/vhs-tiny-hidden"), dtype="float32")
    connector = build_connector("mlp3x_gelu", 48, 64)
    folder = tmp_path / "trained"
    folder.mkdir()
    (folder / "README.md").write_text("a model card")
    parts = (folder, verifier.llm, connector, verifier.tokenizer)
    kind = {"vision_tower": "hidden_3", "projector_type": "mlp3x_gelu", "width": 48}
    save_verifier(*parts, **kind)
    before = load_verifier(folder, "hidden_3")
    save_verifier(*parts, **kind)
    assert (folder / "README.md").read_text() == "a model card" and not folder.with_name("trained.partial").exists()
    assert {t.dtype for t in load_file(folder / "model.safetensors").values()} == {torch.bfloat16}
    assert before.block == 3
    assert len({file.stat().st_mode for file in folder.iterdir()}) == 1, "who reads one file reads all"
    after = load_verifier(folder, "hidden_3")
    assert torch.equal(before.score("x", activations["p0"]).score, after.score("x", activations["p0"]).score)


def test_a_resized_vocabulary_survives(checkpoint, activations, tmp_path):
    verifier = load_verifier(checkpoint("A/vhs-tiny-hidden"), resize_vocabulary=True)
    saved = save_verifier(
        tmp_path / "resized", verifier.llm, verifier.connector, verifier.tokenizer,
        vision_tower="hidden_7", projector_type="mlp2x_gelu", width=48, dtype=torch.float32,
    )  # fmt: skip
    again = load_verifier(saved, resize_vocabulary=True)
    assert again.tokenizer.unk_token == "[UNK]" and again.llm.config.vocab_size == 640
    assert torch.equal(verifier.score("x", activations["p0"]).score, again.score("x", activations["p0"]).score)
