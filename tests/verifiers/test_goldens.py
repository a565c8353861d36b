"""The release's own numbers: hidden states (A), pictures (B), connectors and Qwen3 (C)."""

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from vhs.errors import CheckpointError, PromptError
from vhs.verifiers import build_inputs, load_verifier

from .conftest import GOLDENS

FP32 = 1e-5
BF16 = 0.04
MARGIN = 0.05


def compare(score, rows, tolerance):
    """Probabilities within `tolerance`; in float32 also answers, and scores (which flip sign with the answer)."""
    expected = {key: torch.tensor([row[key] for row in rows]) for key in ("p_yes", "p_no", "correct")}
    signed = torch.where(expected["correct"], expected["p_yes"], -expected["p_no"])
    assert score.score.dtype == score.p_yes.dtype == torch.float32 and score.correct.dtype == torch.bool
    torch.testing.assert_close(score.p_yes, expected["p_yes"], atol=tolerance, rtol=0)
    torch.testing.assert_close(score.p_no, expected["p_no"], atol=tolerance, rtol=0)
    if tolerance == FP32:
        assert torch.equal(score.correct, expected["correct"])
        torch.testing.assert_close(score.score, signed, atol=tolerance, rtol=0)
    first, second = signed.topk(2).values
    if first - second > MARGIN:
        assert score.score.argmax() == signed.argmax()


A_RUNS = [
    f"{kind}_{dtype}_{size}" for kind in ("channel", "token", "none") for dtype in ("fp32", "bf16")
    for size in ("single", "batched")
] + ["qwenpath_fp32_single", "qwenpath_bf16_single", "cfgnonorm_fp32_single", "genprompt_fp32_single"]  # fmt: skip


@pytest.mark.parametrize("name", A_RUNS)
def test_hidden_states(name, checkpoint, activations, cases):
    golden = cases("A")
    run = golden["runs"][name]
    changes = {"mm_vision_normalize": False} if "nonorm" in name else {}
    files = run["norm_files"] or (None, None)
    verifier = load_verifier(
        checkpoint("A/vhs-tiny-hidden", **changes),
        "hidden_7",
        *(file and GOLDENS / "A" / file for file in files),
        use_generation_prompt="genprompt" in name,
        resize_vocabulary="qwenpath" not in name,
        dtype="float32" if "fp32" in name else "bfloat16",
    )
    assert verifier.llm.config.vocab_size == run["vocab_size_after_load"]
    for i, rows in enumerate(run["results"]):
        score = verifier.score(golden["prompts"][i]["prompt"], activations[f"p{i}"])
        compare(score, rows, FP32 if "fp32" in name else BF16)


@pytest.mark.parametrize("key, flag", [("prompts", False), ("prompts_with_use_generation_prompt", True)])
def test_input_ids(key, flag, checkpoint, cases):
    tokenizer = load_verifier(checkpoint("A/vhs-tiny-hidden")).tokenizer
    for case in cases("A")[key]:
        assert build_inputs(tokenizer, case["prompt"], flag) == case["input_ids"]


def test_features_and_logits(checkpoint, activations, statistics, cases):
    expected = load_file(GOLDENS / "A" / "tensors_fp32.safetensors")
    verifier = load_verifier(
        checkpoint("A/vhs-tiny-hidden"), **statistics, use_generation_prompt=False, resize_vocabulary=True
    )
    for name in ("p0", "p5"):
        normal = verifier.reader(activations[name]).float()
        torch.testing.assert_close(normal, expected[f"{name}.images_after_processor"], atol=FP32, rtol=0)
        with torch.no_grad():
            features = verifier.image_features(activations[name])
            ids = build_inputs(verifier.tokenizer, cases("A")["prompts"][int(name[1])]["prompt"], False)
            logits = verifier.answer_logits(ids, activations[name])
        torch.testing.assert_close(features, expected[f"{name}.image_features"], atol=FP32, rtol=0)
        torch.testing.assert_close(logits, expected[f"{name}.last_logits"], atol=1e-4, rtol=0)


def test_sampling_settings_are_ignored_and_said_once(checkpoint, activations, statistics, cases, caplog):
    golden = cases("A")
    folder = checkpoint("A/vhs-tiny-hidden")
    (folder / "generation_config.json").write_text((GOLDENS / "A" / "generation_config.json").read_text())
    verifiers = [
        load_verifier(folder, **statistics, use_generation_prompt=False, resize_vocabulary=True) for _ in range(2)
    ]
    compare(
        verifiers[1].score(golden["prompts"][1]["prompt"], activations["p1"]),
        golden["runs"]["channel_fp32_single"]["results"][1],
        FP32,
    )
    assert caplog.text.count("sampling settings are ignored") == 1


def test_too_long_a_prompt_is_refused(checkpoint, activations):
    folder = checkpoint("A/vhs-tiny-hidden")
    file = folder / "tokenizer_config.json"
    file.write_text(file.read_text().replace('"model_max_length": 131072', '"model_max_length": 156'))
    verifier = load_verifier(folder, use_generation_prompt=False)
    verifier.score("a photo of a bench", activations["p0"])
    with pytest.raises(PromptError, match="157 tokens with the picture's 64, the verifier takes 156; shorten it by 1"):
        verifier.score("a photo of two clocks", activations["p0"])


@pytest.fixture
def clip_folder(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "openai").symlink_to(GOLDENS / "B" / "openai")
    return checkpoint("B/vhs-tiny-clip")


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_pictures(dtype, clip_folder, cases):
    golden = cases("B")
    verifier = load_verifier(
        clip_folder,
        "openai/clip-vit-tiny-patch14-56",
        use_generation_prompt=False,
        resize_vocabulary=True,
        dtype={"fp32": "float32", "bf16": "bfloat16"}[dtype],
    )
    pictures = [Image.open(GOLDENS / "B" / name) for name in golden["images"]]
    for i, rows in enumerate(golden["runs"][f"{dtype}_pil_single"]):
        score = verifier.score(golden["prompts"][i]["prompt"], pictures)
        compare(score, rows, FP32 if dtype == "fp32" else BF16)


def test_picture_tensors(clip_folder, cases):
    expected = load_file(GOLDENS / "B" / "tensors_fp32.safetensors")
    verifier = load_verifier(clip_folder)
    pictures = [GOLDENS / "B" / name for name in cases("B")["images"]]
    with torch.no_grad():
        found = {
            "pixel_values": verifier.reader.pixels(pictures),
            "tower_features": verifier.reader(pictures),
            "image_features": verifier.image_features(pictures),
        }
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[f"fp32.{name}"], atol=FP32, rtol=0)


C_VARIANTS = ["linear", "mlp2x_gelu", "mlp3x_gelu", "norm_linear", "norm_mlp2x_gelu", "untied"]


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("name", [f"vhs-tiny-{kind}" for kind in C_VARIANTS] + ["vhs-qwen3-tiny"])
def test_connectors_and_models(name, dtype, checkpoint, activations, statistics, cases):
    golden, prompts = cases("C")["variants"][name], cases("A")["prompts"]
    verifier = load_verifier(
        checkpoint(f"C/{name}", folder="checkpoint"),
        **statistics,
        use_generation_prompt=False,
        resize_vocabulary="qwen3" not in name,
        dtype={"fp32": "float32", "bf16": "bfloat16"}[dtype],
    )
    for i, rows in enumerate(golden["runs"][f"{dtype}_single"]):
        assert build_inputs(verifier.tokenizer, prompts[i]["prompt"], False) == golden["input_ids"][i]
        score = verifier.score(prompts[i]["prompt"], activations[f"p{i}"])
        compare(score, rows, FP32 if dtype == "fp32" else BF16)
    if dtype == "fp32":
        expected = load_file(GOLDENS / "C" / f"image_features_{name}_fp32.safetensors")
        for key, features in expected.items():
            with torch.no_grad():
                found = verifier.image_features(activations[key[:2]])
            torch.testing.assert_close(found, features, atol=FP32, rtol=0)


def test_regression_head_is_refused_by_name(checkpoint):
    with pytest.raises(CheckpointError, match="config.json: architectures: a regression head is not supported"):
        load_verifier(checkpoint("C/vhs-tiny-regression"))
