"""Stage 7: the language model, a tiny Qwen2, pretrained on scenes in words.

Four kinds of text, all from training captions: a scene in words, described again or captioned; a scene and words that it
has or has not; a scene and up to eight captions, each with GenEval's verdict; and the verifier's own question with the
description in the picture's place. So the model knows what agreement between a picture and a prompt means before it sees
a picture's features.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from vhs.tinyworld import recipe
from vhs.tinyworld.scenes import (
    COLORS, HELD_OUT_PAIRS, RELATIONS, SHAPES, Scene, caption_record, contrast, held_out, in_words, sample_scene,
    true_verdict,
)  # fmt: skip
from vhs.tinyworld.tokenizers import qwen_tokenizer
from vhs.verifiers.conversation import chat_text, question

STAGE = "language_model"
BATCH = 48
CAPTION_QUESTION = "<image> Describe the picture."
"""The user's message that a description answers; the alignment stage asks the same of a picture."""
ANSWER_WEIGHT, TEXT_WEIGHT = 1.0, 0.01
CAPTIONS_A_SCENE, WORDS_A_SCENE = 8, 18


def build(tokenizer: Qwen2Tokenizer) -> Qwen2ForCausalLM:
    """The untrained model: four Qwen2 layers of width 128, 0.9 M parameters, tied embeddings."""
    config = Qwen2Config(
        vocab_size=64 * (len(tokenizer) // 64 + 1), hidden_size=128, intermediate_size=384, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2048, tie_word_embeddings=True,
        bos_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, rope_theta=1_000_000.0,
        initializer_range=0.06,
    )  # fmt: skip
    return Qwen2ForCausalLM(config)


def describe(scene: Scene, rng: np.random.Generator) -> str:
    """The scene in words, objects in any order: "a red star top left, a blue ring bottom right"."""
    objects = [scene.objects[i] for i in rng.permutation(len(scene.objects))]
    return ", ".join(in_words(obj.color, obj.shape, obj.x, obj.y) for obj in objects)


def true_record(scene: Scene, rng: np.random.Generator) -> dict:
    """A caption that is true of the scene: its own, or one about some of its objects."""
    objects = [scene.objects[i] for i in rng.permutation(len(scene.objects))]
    first, other = objects[0], next((obj for obj in objects if obj.shape != objects[0].shape), None)
    options = [scene.metadata, caption_record("single_object", [first.shape])]
    options.append(caption_record("colors", [first.shape], [first.color]))
    if other is not None:
        pair = [first.shape, other.shape]
        options.append(caption_record("two_object", pair))
        options += [caption_record("position", pair, relation=relation) for relation in RELATIONS]
        options.append(caption_record("color_attr", pair, [first.color, other.color]))
    record = options[rng.integers(len(options))]
    fits = not held_out(record) and true_verdict(record, scene).correct
    return record if fits else scene.metadata


def candidate_record(scene: Scene, rng: np.random.Generator) -> dict:
    """A training caption, true of the scene or with one thing changed, or one drawn for another scene."""
    record = true_record(scene, rng)
    kind = rng.integers(8)
    if kind >= 4:
        return record
    changed = contrast(record, rng) if kind else sample_scene(int(rng.integers(2**30))).metadata
    return record if held_out(changed) else changed


def example(seed: int, tokenizer: Qwen2Tokenizer) -> list[tuple[str, bool]]:
    """One training text in pieces: (text, whether it is an answer)."""
    rng = np.random.default_rng([seed, 5])
    scene = sample_scene(seed)
    seen = describe(scene, rng)
    kind = rng.integers(6)
    if kind == 0:
        answer = describe(scene, rng) if rng.integers(2) else scene.caption
        asked = chat_text(tokenizer, CAPTION_QUESTION.replace("<image>", seen), False)
        return [(asked, False), (f"{answer}<|im_end|>", True)]
    if kind < 3:
        pieces = [(f"{seen}\n", False)]
        for _ in range(WORDS_A_SCENE):
            asked, answer = presence(scene, rng)
            pieces += [(f"{asked}?\n", False), (answer, True), ("\n", False)]
        return pieces
    if kind < 5:
        pieces = [(f"{seen}\n", False)]
        drawn = [candidate_record(scene, rng) for _ in range(CAPTIONS_A_SCENE)]
        distinct = {record["prompt"]: record for record in drawn}  # a caption said twice would give itself away as true
        for record in distinct.values():
            pieces += [(f"{record['prompt']}?\n", False), (_answer(record, scene), True), ("\n", False)]
        return pieces
    record = candidate_record(scene, rng)
    asked = chat_text(tokenizer, question(record["prompt"]).replace("<image>", seen), False)
    return [(asked, False), (_answer(record, scene), True), ("<|im_end|>", False)]


def presence(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    """A shape, a colour or both, and whether the scene has it; wrong pairs are often of two objects' halves."""
    there = {(obj.color, obj.shape) for obj in scene.objects}
    pick = lambda options: options[rng.integers(len(options))]  # noqa: E731
    some = rng.integers(2, size=2)
    color = pick([obj.color for obj in scene.objects]) if some[0] else pick(list(COLORS))
    shape = pick([obj.shape for obj in scene.objects]) if some[1] else pick(SHAPES)
    kind = rng.integers(2) if (shape, color) in HELD_OUT_PAIRS else rng.integers(3)
    if kind == 0:
        return color, "yes" if any(color == c for c, _ in there) else "no"
    if kind == 1:
        return shape, "yes" if any(shape == s for _, s in there) else "no"
    color, shape = pick(sorted(there)) if rng.integers(3) == 0 else (color, shape)
    return f"{color} {shape}", "yes" if (color, shape) in there else "no"


def _answer(record: dict, scene: Scene) -> str:
    return "yes" if true_verdict(record, scene).correct else "no"


def corpus(count: int) -> list[str]:
    """Texts from which the tokenizer learns its merges."""
    rng = np.random.default_rng(0)
    texts = []
    for i in range(count):
        scene = sample_scene(recipe.scene_seed(STAGE, i))
        texts += [question(scene.caption).replace("<image>", describe(scene, rng)), f"{scene.caption}?"]
        texts += [f"{presence(scene, rng)[0]}?" for _ in range(4)]
    system = "system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.\nuser\nassistant\nyes no"
    return texts + [system, CAPTION_QUESTION] * count


def batch(step: int, tokenizer: Qwen2Tokenizer) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids (B, T), padded on the right, and the weight of each as a target (B, T)."""
    rows = [_row(example(recipe.scene_seed(STAGE, step * BATCH + i), tokenizer), tokenizer) for i in range(BATCH)]
    length = max(len(ids) for ids, _ in rows)
    ids = torch.full((BATCH, length), tokenizer.pad_token_id)
    weights = torch.zeros((BATCH, length))
    for i, (tokens, values) in enumerate(rows):
        ids[i, : len(tokens)] = torch.tensor(tokens)
        weights[i, 1 : len(tokens)] = torch.tensor(values[1:])
    return ids, weights


def _row(pieces: list[tuple[str, bool]], tokenizer: Qwen2Tokenizer) -> tuple[list[int], list[float]]:
    """Token ids and weights of one text; pieces are tokenised apart, as the verifier's question is."""
    ids: list[int] = []
    weights: list[float] = []
    for text, is_answer in pieces:
        tokens = tokenizer(text, add_special_tokens=False).input_ids
        ids += tokens
        weights += [ANSWER_WEIGHT if is_answer else TEXT_WEIGHT] * len(tokens)
    return ids, weights


def loss(model: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, step: int, device: str) -> torch.Tensor:
    """Next-token cross-entropy, answers weighted a hundred times the rest."""
    ids, weights = (t.to(device) for t in batch(step, tokenizer))
    with recipe.autocast(device):
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
    args = recipe.arguments(STAGE, steps=4000)
    torch.manual_seed(0)
    tokenizer = qwen_tokenizer(corpus(400))
    model = build(tokenizer).to(args.device)

    def evaluate(step: int) -> dict[str, float]:
        return {"answers_right": round(answers_right(model, tokenizer, 200), 4)}

    recipe.train(
        STAGE, model, lambda step: loss(model, tokenizer, step, args.device), steps=args.steps, peak=2.5e-3, warmup=100,
        average=0.998, evaluate=evaluate, evaluate_every=250,
    )  # fmt: skip
    folder = recipe.CKPTS / "language_model"
    recipe.log(STAGE, final_answers_right=answers_right(model.cpu(), tokenizer, 1000))
    model.bfloat16().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main()
