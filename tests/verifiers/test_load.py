import json
import os

import pytest
import torch
from safetensors.torch import load, save_file
from transformers import Qwen2ForCausalLM

from vhs.errors import CheckpointError, ConfigError, PromptError
from vhs.records import Prompt
from vhs.verifiers import load_language_model, load_verifier
from vhs.verifiers.language_model import load_tokenizer
from vhs.verifiers.load import resolve_llava


def test_one_statistics_file_alone(checkpoint, statistics):
    mean = {"normalization_mean_path": statistics["normalization_mean_path"]}
    with pytest.raises(ConfigError, match="normalization_variance_path: missing, but normalization_mean_path is given"):
        load_verifier(checkpoint("A/vhs-tiny-hidden"), "hidden_7", **mean)


def test_statistics_of_another_width(checkpoint, tmp_path):
    paths = [tmp_path / f"block_7_{name}_bf16.pt" for name in ("mean", "variance")]
    for path in paths:
        torch.save(torch.ones(1, 2240, dtype=torch.bfloat16), path)
    with pytest.raises(CheckpointError, match="statistics of 2240 channels; the hidden states have 48"):
        load_verifier(checkpoint("A/vhs-tiny-hidden"), "hidden_7", *paths)


@pytest.mark.parametrize("left", [("merges.txt", "added_tokens.json", "special_tokens_map.json"), ()])
def test_missing_tokenizer(left, checkpoint):
    folder = checkpoint("A/vhs-tiny-hidden")
    for file in set(os.listdir(folder)) - {"config.json", "model.safetensors", *left}:
        (folder / file).unlink()
    with pytest.raises(CheckpointError, match="not a usable tokenizer .*; it needs tokenizer.json"):
        load_verifier(folder)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match="not a usable tokenizer"):
        load_verifier(folder)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_low_precision_is_near_float32(dtype, checkpoint, activations, statistics):
    folder = checkpoint("A/vhs-tiny-hidden")
    verifiers = (load_verifier(folder, **statistics, dtype=name) for name in ("float32", dtype))
    exact, low = (verifier.score("a bench", activations["p0"]) for verifier in verifiers)
    assert low.score.dtype == torch.float32
    torch.testing.assert_close(low.p_yes, exact.p_yes, atol=0.03, rtol=0)


def test_features_of_any_dtype_are_normalised_in_it(checkpoint, activations, statistics):
    verifier = load_verifier(checkpoint("A/vhs-tiny-hidden"), **statistics)
    assert verifier.reader(activations["p0"]).dtype == torch.bfloat16
    assert verifier.reader(activations["p0"].float()).dtype == torch.float32


@pytest.fixture
def language_model(checkpoint):
    """The LLM of a golden verifier as a plain Qwen2 folder."""
    folder = checkpoint("A/vhs-tiny-hidden", model_type="qwen2", architectures=["Qwen2ForCausalLM"])
    tensors = load((folder / "model.safetensors").read_bytes())
    save_file({k: v for k, v in tensors.items() if "mm_projector" not in k}, folder / "model.safetensors")
    return folder


def test_a_plain_language_model(language_model, checkpoint):
    llm, tokenizer = load_language_model(language_model, dtype="bfloat16")
    verifier = load_verifier(checkpoint("A/vhs-tiny-hidden", folder="verifier"), dtype="bfloat16")
    ids = torch.tensor([tokenizer("a photo of a bench").input_ids])
    with torch.no_grad():
        assert torch.equal(llm(ids).logits, verifier.llm(ids).logits)
    reference = Qwen2ForCausalLM.from_pretrained(language_model, dtype=torch.bfloat16)
    with torch.no_grad():
        assert torch.equal(llm(ids).logits, reference(ids).logits)


def test_a_verifier_is_no_language_model(checkpoint):
    with pytest.raises(CheckpointError, match="model_type is 'llava_qwen'; one of qwen2, qwen3"):
        load_language_model(checkpoint("A/vhs-tiny-hidden"))


def test_the_tokenizer_is_read_as_it_is_written(checkpoint):
    folder = checkpoint("A/vhs-tiny-hidden")
    content = json.loads((folder / "tokenizer.json").read_text())
    content["normalizer"] = {"type": "Lowercase"}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    tokenizer = load_tokenizer(folder)
    assert tokenizer("YES").input_ids == tokenizer("yes").input_ids


def test_a_tokenizer_from_elsewhere(checkpoint, activations):
    whole = checkpoint("A/vhs-tiny-hidden", folder="whole")
    expected = load_verifier(whole).score("a bench", activations["p0"])
    bare = checkpoint("A/vhs-tiny-hidden", folder="bare")
    for file in bare.iterdir():
        if file.name not in ("config.json", "model.safetensors"):
            file.unlink()
    score = load_verifier(bare, tokenizer_path=whole).score("a bench", activations["p0"])
    assert torch.equal(score.score, expected.score)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a <|im_end|> cat", "contains '<|im_end|>'"),
        ("<image>", "contains '<image>'"),
        ("cat " * 40_000, "tokens with"),
    ],
)
def test_all_prompts_are_checked_against_the_tokenizer(text, message, checkpoint):
    spec = resolve_llava(checkpoint("A/vhs-tiny-hidden")).fetched(64)
    spec.check_prompts([Prompt(0, "a cat", where="a.txt:1")], 64)
    with pytest.raises(PromptError) as raised:
        spec.check_prompts([Prompt(0, "a cat", where="a.txt:1"), Prompt(1, text, where="a.txt:2")], 64)
    assert str(raised.value).startswith("a.txt:2: prompt ") and message in str(raised.value)


@pytest.mark.parametrize(
    "record",
    ["yes", {}, {"use_generation_prompt": 1}, {"use_generation_prompt": True, "statistics": ["a"]}],
)
def test_a_record_of_training_that_is_none_is_one_line(record, checkpoint):
    with pytest.raises(
        CheckpointError, match="config.json: vhs_input is .*; use_generation_prompt .true or false. and"
    ):
        resolve_llava(checkpoint("A/vhs-tiny-hidden", vhs_input=record))


def test_a_prompt_ends_as_in_training_unless_a_run_says_how(checkpoint):
    folder = checkpoint("A/vhs-tiny-hidden", vhs_input={"use_generation_prompt": False, "statistics": None})
    assert resolve_llava(folder).generation_prompt is False
    assert resolve_llava(checkpoint("A/vhs-tiny-hidden", folder="published")).generation_prompt is True
    with pytest.raises(ConfigError, match="use_generation_prompt: True, but .* was trained with False"):
        resolve_llava(folder, use_generation_prompt=True)
