"""Stage 5: the language model, a tiny Qwen2, pretrained on scenes in words.

Three kinds of text, all from training captions: a scene in words, described again or captioned; questions about it; and
the verifier's own question with the description in the picture's place, answered yes or no by GenEval's rules. So the
model knows what agreement between a picture and a prompt means before it sees a picture's features.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from vhs.tinyworld import recipe
from vhs.tinyworld.scenes import COLORS, SHAPES, Scene, contrast, held_out, sample_scene, true_verdict
from vhs.tinyworld.tokenizers import qwen_tokenizer
from vhs.verifiers.conversation import chat_text, question

STAGE = "language_model"
BATCH = 48
CAPTION_QUESTION = "<image> Describe the picture."
"""The user's message that a description answers; the alignment stage asks the same of a picture."""
ANSWER_WEIGHT, TEXT_WEIGHT = 1.0, 0.01


def build(tokenizer: Qwen2Tokenizer) -> Qwen2ForCausalLM:
    """The untrained model: four Qwen2 layers of width 128, 0.9 M parameters, tied embeddings."""
    config = Qwen2Config(
        vocab_size=64 * (len(tokenizer) // 64 + 1), hidden_size=128, intermediate_size=384, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2048, tie_word_embeddings=True,
        bos_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, rope_theta=10_000.0,
    )  # fmt: skip
    return Qwen2ForCausalLM(config)


def describe(scene: Scene, rng: np.random.Generator) -> str:
    """The scene in words, objects in any order: "a red star top left, a blue ring bottom right"."""
    words = []
    for i in rng.permutation(len(scene.objects)):
        obj = scene.objects[i]
        across = "left" if obj.x < 26 else "right" if obj.x > 38 else "center"
        down = "top" if obj.y < 26 else "bottom" if obj.y > 38 else "middle"
        words.append(f"a {obj.color} {obj.shape} {down} {across}")
    return ", ".join(words)


def candidate_record(scene: Scene, rng: np.random.Generator) -> dict:
    """A training caption for the scene: its own, a contrast, or one drawn for another scene."""
    kind = rng.integers(4)
    if kind < 2:
        return scene.metadata
    record = contrast(scene.metadata, rng) if kind == 2 else sample_scene(int(rng.integers(2**30))).metadata
    return scene.metadata if held_out(record) else record


def _question_about(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    """A short question on a description, and its answer."""
    shapes = [obj.shape for obj in scene.objects]
    if rng.integers(2):
        shape = SHAPES[rng.integers(len(SHAPES))] if rng.integers(2) else shapes[0]
        return f"Is there a {shape}?", "yes" if shape in shapes else "no"
    colors = [obj.color for obj in scene.objects]
    color = list(COLORS)[rng.integers(len(COLORS))] if rng.integers(2) else colors[0]
    return f"Is anything {color}?", "yes" if color in colors else "no"


def example(seed: int, tokenizer: Qwen2Tokenizer) -> tuple[str, str]:
    """(text up to the answer, answer) of one training example."""
    rng = np.random.default_rng([seed, 5])
    scene = sample_scene(seed)
    seen = describe(scene, rng)
    kind = rng.integers(6)
    if kind == 0:
        answer = describe(scene, rng) if rng.integers(2) else scene.caption
        return chat_text(tokenizer, CAPTION_QUESTION.replace("<image>", seen), False), f"{answer}<|im_end|>\n"
    if kind == 1:
        asked, answer = _question_about(scene, rng)
        return chat_text(tokenizer, f"{seen}. {asked}", False), f"{answer}<|im_end|>\n"
    record = candidate_record(scene, rng)
    answer = "yes" if true_verdict(record, scene).correct else "no"
    message = question(record["prompt"]).replace("<image>", seen)
    return chat_text(tokenizer, message, False), f"{answer}<|im_end|>\n"


def corpus(count: int) -> list[str]:
    """Texts from which the tokenizer learns its merges."""
    rng = np.random.default_rng(0)
    texts = []
    for i in range(count):
        scene = sample_scene(recipe.scene_seed(STAGE, i))
        texts += [question(scene.caption).replace("<image>", describe(scene, rng)), _question_about(scene, rng)[0]]
    system = "system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.\nuser\nassistant\nyes no"
    return texts + [system, CAPTION_QUESTION] * count


def batch(step: int, tokenizer: Qwen2Tokenizer) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids (B, T), padded on the right, and the weight of each as a target (B, T)."""
    rows = []
    for i in range(BATCH):
        before, answer = example(recipe.scene_seed(STAGE, step * BATCH + i), tokenizer)
        rows.append([tokenizer(text, add_special_tokens=False).input_ids for text in (before, answer)])
    length = max(len(a) + len(b) for a, b in rows)
    ids = torch.full((BATCH, length), tokenizer.pad_token_id)
    weights = torch.zeros((BATCH, length))
    for i, (before, answer) in enumerate(rows):
        total = len(before) + len(answer)
        ids[i, :total] = torch.tensor(before + answer)
        weights[i, 1:total] = TEXT_WEIGHT
        weights[i, len(before) : total] = ANSWER_WEIGHT
    return ids, weights


def loss(model: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, step: int, device: str) -> torch.Tensor:
    """Next-token cross-entropy, answers weighted a hundred times the rest."""
    ids, weights = (t.to(device) for t in batch(step, tokenizer))
    with torch.autocast(device, torch.bfloat16):
        logits = model(input_ids=ids[:, :-1]).logits
    losses = F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    return (losses * weights[:, 1:].flatten()).sum() / weights[:, 1:].sum()


@torch.no_grad()
def answers_right(model: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, count: int) -> float:
    """The share of the verifier's questions on held-out scenes in words that are answered rightly."""
    yes, no = (tokenizer(word, add_special_tokens=False).input_ids[0] for word in ("yes", "no"))
    right = 0
    for i in range(count):
        rng = np.random.default_rng([i, 9])
        scene = sample_scene(recipe.HELD_OUT_SEEDS + i, "test")
        record = scene.metadata if i % 2 else contrast(scene.metadata, rng)
        message = question(record["prompt"]).replace("<image>", describe(scene, rng))
        ids = tokenizer(chat_text(tokenizer, message, False), add_special_tokens=False, return_tensors="pt").input_ids
        logits = model(input_ids=ids.to(model.device)).logits[0, -1]
        right += bool(logits[yes] > logits[no]) == true_verdict(record, scene).correct
    return right / count


def main() -> None:
    args = recipe.arguments(STAGE, steps=2400)
    torch.manual_seed(0)
    tokenizer = qwen_tokenizer(corpus(400))
    model = build(tokenizer).to(args.device)

    def evaluate(step: int) -> dict[str, float]:
        return {"answers_right": round(answers_right(model, tokenizer, 200), 4)}

    recipe.train(
        STAGE, model, lambda step: loss(model, tokenizer, step, args.device), steps=args.steps, peak=1.5e-3,
        average=0.998, evaluate=evaluate, evaluate_every=250,
    )  # fmt: skip
    folder = recipe.CKPTS / "language_model"
    recipe.log(STAGE, final_answers_right=answers_right(model.cpu(), tokenizer, 1000))
    model.bfloat16().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main()
