import pytest
import torch
from torch import nn

from vhs.verifiers import answer_logits, build_inputs, load_verifier
from vhs.verifiers.conversation import IMAGE_INDEX
from vhs.verifiers.llava import build_llm, embed_inputs, resize_vocabulary

PROMPTS = ["a photo of a bench", "a photo of a red bicycle and a green cow", "two", "a photo of two clocks"]


@pytest.fixture
def verifier(checkpoint, statistics):
    return load_verifier(checkpoint("A/vhs-tiny-hidden"), "hidden_7", **statistics)


def test_a_batch_equals_single_candidates(verifier, activations):
    batch = verifier.score(PROMPTS[0], activations["p0"])
    singles = torch.cat([verifier.score(PROMPTS[0], activations["p0"][i : i + 1]).score for i in range(5)])
    torch.testing.assert_close(batch.score, singles, atol=1e-5, rtol=0)


@pytest.mark.parametrize("micro_batch", [1, 2, 3, 5, 64])
def test_a_micro_batch_changes_nothing(micro_batch, verifier, activations):
    whole = verifier.score(PROMPTS[0], activations["p0"])
    verifier.micro_batch = micro_batch
    calls = []
    verifier.llm.register_forward_hook(lambda *_: calls.append(1))
    parts = verifier.score(PROMPTS[0], activations["p0"])
    assert len(calls) == -(-5 // micro_batch)
    torch.testing.assert_close(parts.score, whole.score, atol=1e-5, rtol=0)
    assert torch.equal(parts.correct, whole.correct)


def test_candidates_do_not_see_each_other(verifier, activations):
    order = [3, 1, 4, 0, 2]
    there = verifier.score(PROMPTS[0], activations["p0"]).score
    assert torch.allclose(verifier.score(PROMPTS[0], activations["p0"][order]).score, there[order], atol=1e-6)


def test_prompts_of_different_lengths_in_one_batch_equal_single_prompts(verifier, activations):
    ids = [build_inputs(verifier.tokenizer, prompt) for prompt in PROMPTS]
    features = verifier.reader(activations["p0"][:4]).float()
    with torch.no_grad():
        batch = answer_logits(verifier.llm, verifier.connector, ids, features)
        singles = [
            answer_logits(verifier.llm, verifier.connector, i, f[None]) for i, f in zip(ids, features, strict=False)
        ]
    assert batch.shape == (4, 704) and batch.dtype == torch.float32
    torch.testing.assert_close(batch, torch.cat(singles), atol=1e-4, rtol=0)
    torch.testing.assert_close(batch.softmax(-1), torch.cat(singles).softmax(-1), atol=1e-5, rtol=0)


def test_padding_is_masked_and_keeps_positions(verifier):
    ids = [[5, IMAGE_INDEX, 6], [5, 7, 8, IMAGE_INDEX, 6]]
    tokens = torch.randn(2, 3, 64)
    inputs = embed_inputs(verifier.llm, tokens, ids)
    assert inputs["attention_mask"].tolist() == [[0, 0, 1, 1, 1, 1, 1], [1] * 7]
    assert inputs["position_ids"].tolist() == [[0, 0, 0, 1, 2, 3, 4], list(range(7))]
    for row in range(2):
        assert torch.equal(inputs["inputs_embeds"][row, 3:6], tokens[row])


def test_gradients_reach_connector_and_llm_and_are_those_of_single_prompts(verifier, activations):
    ids = [build_inputs(verifier.tokenizer, prompt) for prompt in PROMPTS[:2]]
    features = verifier.reader(activations["p0"][:2]).float()
    modules = nn.ModuleList([verifier.llm, verifier.connector])

    def gradients(batches):
        modules.zero_grad()
        for batch, rows in batches:
            answer_logits(verifier.llm, verifier.connector, batch, rows)[:, 260].sum().backward()
        return {name: p.grad.clone() for name, p in modules.named_parameters()}

    together = gradients([(ids, features)])
    apart = gradients([(i, f[None]) for i, f in zip(ids, features, strict=False)])
    for name, gradient in together.items():
        assert gradient.isfinite().all() and gradient.abs().max() > 0, name
        torch.testing.assert_close(gradient, apart[name], atol=1e-4, rtol=1e-3)


def test_late_positions_survive_bfloat16(checkpoint):
    """Frequencies rounded to bfloat16 would turn position 1,000 by a radian."""
    verifier = load_verifier(checkpoint("A/vhs-tiny-hidden"), dtype="bfloat16")
    rotary = verifier.llm.model.rotary_emb
    assert verifier.dtype == torch.bfloat16 and rotary.inv_freq.dtype == torch.float32
    assert rotary.inv_freq[1].item() == pytest.approx(1e6 ** (-1 / 8), rel=1e-6)


class Words:
    """As much of a tokenizer as the vocabulary rule asks for."""

    def __init__(self, length, unknown=None):
        self.length, self.unk_token = length, unknown

    def __len__(self):
        return self.length

    def add_special_tokens(self, tokens):
        self.unk_token, self.length = tokens["unk_token"], self.length + 1


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("length, rows", [(63, 64), (64, 128), (100, 128), (592, 640), (704, 768)])
def test_vocabulary_rule(tied, length, rows, checkpoint):
    from vhs.verifiers.checkpoint import read_tensors, read_verifier_config
    from vhs.verifiers.llava import load_parts

    config = read_verifier_config(checkpoint("A/vhs-tiny-hidden" if tied else "C/vhs-tiny-untied"))
    llm, _ = load_parts(config, read_tensors(config.folder))
    old = [m.weight.clone() for m in (llm.get_input_embeddings(), llm.get_output_embeddings())]
    resize_vocabulary(llm, Words(length))
    new = [m.weight for m in (llm.get_input_embeddings(), llm.get_output_embeddings())]
    assert (new[0] is new[1]) == tied and llm.config.vocab_size == rows
    for before, after in zip(old, new, strict=False):
        kept = min(rows, 704) - (rows <= 704)
        assert after.shape == (rows, 64) and after.dtype == torch.bfloat16
        assert torch.equal(after[:kept], before[:kept])
        assert torch.equal(after[-1], after[:-1].mean(dim=0))


def test_vocabulary_stays_where_the_tokenizer_has_an_unknown_token():
    llm = build_llm({"model_type": "llava_qwen", "hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1,
                     "num_hidden_layers": 1, "intermediate_size": 8, "vocab_size": 100})  # fmt: skip
    resize_vocabulary(llm, Words(70, unknown="[UNK]"))
    assert llm.get_input_embeddings().weight.shape == (100, 8)
