"""The language model, a tiny Qwen2, pretrained on scenes in words.

A scene is described in a sentence or drawn with words, cell by cell (word_grid.py). Four kinds of text follow, all from
training captions: a description or a caption; words that do or do not apply to the scene, and where a shape is; up to
eight captions, each with GenEval's verdict; and the verifier's own question with the scene in the picture's place. So
the model knows how to look at a picture, and what it means for one to match a prompt, before it sees any features.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from vhs.tinyworld import recipe, word_grid
from vhs.tinyworld.scenes import (  # fmt: skip
    COLORS,
    HELD_OUT_PAIRS,
    OPPOSITE,
    RELATIONS,
    SHAPES,
    Scene,
    SceneObject,
    article,
    caption_record,
    contrast,
    held_out,
    in_words,
    make_scene,
    place_in_words,
    records,
    sample_scene,
    true_verdict,
)
from vhs.tinyworld.tokenizers import qwen_tokenizer
from vhs.tinyworld.word_grid import Words
from vhs.verifiers.conversation import IMAGE_MARKER, chat_text, question

STAGE = "language_model"
BATCH = 48
DRAWN = 0.8
"""Share of the scenes that are drawn with words instead of described."""
CAPTION_QUESTION = "<image> Describe the picture."
"""The user's message that a description answers; the alignment stage asks the same of a picture."""
ANSWER_WEIGHT, TEXT_WEIGHT = 1.0, 0.01
CAPTIONS_PER_SCENE, WORDS_PER_SCENE = 8, 12
RESTART = 3500
"""The step at which a second cosine begins: the first one ends before left and right are told apart (docs/LOG.md)."""


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
    """The scene in words, objects in any order: "a red star top left, ..."."""
    objects = [scene.objects[i] for i in rng.permutation(len(scene.objects))]
    return ", ".join(in_words(obj.color, obj.shape, obj.x, obj.y) for obj in objects)


def two_shapes(scene: Scene, rng: np.random.Generator) -> tuple[SceneObject, SceneObject | None]:
    """One of the objects, and one of another shape where there is any."""
    first, *others = [scene.objects[i] for i in rng.permutation(len(scene.objects))]
    return first, next((obj for obj in others if obj.shape != first.shape), None)


def true_record(scene: Scene, rng: np.random.Generator) -> dict:
    """A caption that is true of the scene: its own, or one about some of its objects."""
    first, other = two_shapes(scene, rng)
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
    changed = contrast(record, rng) if kind else sample_scene(int(rng.integers(recipe.HELD_OUT_SEEDS))).metadata
    return record if held_out(changed) else changed


def true_relations(scene: Scene, pair: list[str]) -> list[str]:
    """The relations that GenEval finds between the first and the second of two shapes."""
    return [r for r in RELATIONS if true_verdict(caption_record("position", pair, relation=r), scene).correct]


def order_record(scene: Scene, rng: np.random.Generator) -> dict | None:
    """A relation that holds between two shapes, or as often its opposite; None where training has no such caption."""
    first, other = two_shapes(scene, rng)
    if other is None:
        return None
    pair = [first.shape, other.shape]
    holds = true_relations(scene, pair)
    if not holds:
        return None
    relation = holds[rng.integers(len(holds))]
    record = caption_record("position", pair, relation=relation if rng.integers(2) else OPPOSITE[relation])
    return None if held_out(record) else record


def asked_record(scene: Scene, rng: np.random.Generator) -> dict:
    """A caption to be judged: in a third of the cases which of two shapes is left or above."""
    ordered = order_record(scene, rng) if rng.integers(3) == 0 else None
    return ordered or candidate_record(scene, rng)


def example(seed: int, tokenizer: Qwen2Tokenizer) -> list[tuple[str, bool]]:
    """One training text about `sample_scene(seed)` in pieces: (text, whether it is an answer). Where `<image>` stands
    in it, the scene is to be drawn."""
    rng = np.random.default_rng([seed, 5])
    scene = sample_scene(seed)
    seen = IMAGE_MARKER if rng.random() < DRAWN else describe(scene, rng)
    kind = rng.integers(8)
    if kind == 0:
        answer = describe(scene, rng) if rng.integers(4) else scene.caption
        asked = chat_text(tokenizer, CAPTION_QUESTION.replace(IMAGE_MARKER, seen), False)
        return [(asked, False), (f"{answer}<|im_end|>", True)]
    if kind < 5:
        pieces = [(f"{seen}\n", False)]
        for _ in range(WORDS_PER_SCENE):
            asked, answer = (presence, whereabouts, order)[rng.integers(3)](scene, rng)
            pieces += [(asked, False), (answer, True), ("\n", False)]
        return pieces
    if kind < 7:
        pieces = [(f"{seen}\n", False)]
        drawn = [asked_record(scene, rng) for _ in range(CAPTIONS_PER_SCENE)]
        distinct = {record["prompt"]: record for record in drawn}  # a caption said twice would give itself away as true
        for record in distinct.values():
            pieces += [(f"{record['prompt']}?\n", False), (_answer(record, scene), True), ("\n", False)]
        return pieces
    record = asked_record(scene, rng)
    asked = chat_text(tokenizer, question(record["prompt"]).replace(IMAGE_MARKER, seen), False)
    return [(asked, False), (_answer(record, scene), True), ("<|im_end|>", False)]


def presence(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    """A shape, a colour or both, and whether the scene has it; wrong pairs are often of two objects' halves."""
    there = {(obj.color, obj.shape) for obj in scene.objects}

    def pick(options: Sequence) -> Any:
        return options[rng.integers(len(options))]

    some = rng.integers(2, size=2)
    color = pick([obj.color for obj in scene.objects]) if some[0] else pick(list(COLORS))
    shape = pick([obj.shape for obj in scene.objects]) if some[1] else pick(SHAPES)
    kind = rng.integers(2) if (shape, color) in HELD_OUT_PAIRS else rng.integers(3)
    if kind == 0:
        return f"{color}?\n", "yes" if any(color == c for c, _ in there) else "no"
    if kind == 1:
        return f"{shape}?\n", "yes" if any(shape == s for _, s in there) else "no"
    color, shape = pick(sorted(there)) if rng.integers(3) == 0 else (color, shape)
    return f"{color} {shape}?\n", "yes" if (color, shape) in there else "no"


def whereabouts(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    """The beginning of a caption, and where its shape is: ("a photo of a star", " top left"), for a shape that is there
    once; `presence` where there is none.

    The answer directly follows the shape's name, so that one attention step finds it: relations are learned from that.
    """
    shapes = [obj.shape for obj in scene.objects]
    alone = [obj for obj in scene.objects if shapes.count(obj.shape) == 1]
    if not alone:
        return presence(scene, rng)
    obj = alone[rng.integers(len(alone))]
    across, down = place_in_words(obj.x, obj.y)
    return f"a photo of {article(obj.shape)}", f" {down} {across}"


def order(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    """A relation or its opposite, and GenEval's verdict; without any, `presence`."""
    record = order_record(scene, rng)
    return (f"{record['prompt']}?\n", _answer(record, scene)) if record else presence(scene, rng)


def _answer(record: dict, scene: Scene) -> str:
    return "yes" if true_verdict(record, scene).correct else "no"


def corpus(count: int) -> list[str]:
    """Texts from which the tokenizer learns its merges."""
    rng = np.random.default_rng(0)
    texts = []
    for i in range(count):
        scene = sample_scene(recipe.scene_seed(STAGE, i))
        texts += [question(scene.caption).replace("<image>", describe(scene, rng)), f"{scene.caption}?"]
        texts += [presence(scene, rng)[0].strip() for _ in range(4)]
    system = "system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.\nuser\nassistant\nyes no"
    return texts + [system, CAPTION_QUESTION] * count


def batch(step: int, tokenizer: Qwen2Tokenizer) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Words' ids and weights (B, T, WORDS), padded on the right, and the weight of each token as a target (B, T)."""
    seeds = [recipe.scene_seed(STAGE, step * BATCH + i) for i in range(BATCH)]
    rows = [_row(example(seed, tokenizer), tokenizer, seed) for seed in seeds]
    shape = (BATCH, max(len(targets) for _, targets in rows))
    ids, weights = (
        np.zeros((*shape, word_grid.WORDS), dtype=np.int64),
        np.zeros((*shape, word_grid.WORDS), dtype=np.float32),
    )
    targets = np.zeros(shape, dtype=np.float32)
    for i, (words, values) in enumerate(rows):
        ids[i, : len(values)], weights[i, : len(values)], targets[i, 1 : len(values)] = (
            words.ids,
            words.weights,
            values[1:],
        )
    return torch.from_numpy(ids), torch.from_numpy(weights), torch.from_numpy(targets)


def _row(pieces: list[tuple[str, bool]], tokenizer: Qwen2Tokenizer, seed: int) -> tuple[Words, list[float]]:
    """One text's words and targets; pieces are tokenised apart, as the verifier's question is."""
    parts: list[Words] = []
    targets: list[float] = []
    for text, is_answer in pieces:
        for number, half in enumerate(text.split(IMAGE_MARKER)):
            if number:
                parts.append(drawing(seed, sample_scene(seed), tokenizer))
                targets += [0.0] * len(parts[-1].ids)
            tokens = tokenizer(half, add_special_tokens=False).input_ids
            parts.append(Words.of_text(tokens))
            targets += [ANSWER_WEIGHT if is_answer else TEXT_WEIGHT] * len(tokens)
    return Words(np.concatenate([p.ids for p in parts]), np.concatenate([p.weights for p in parts])), targets


def drawing(seed: int, scene: Scene, tokenizer: Qwen2Tokenizer) -> Words:
    """The scene drawn with words."""
    return word_grid.draw(
        scene, lambda word: tokenizer.convert_tokens_to_ids(f"Ġ{word}"), np.random.default_rng([seed, 6])
    )


def loss(model: Qwen2ForCausalLM, layers: Callable, tokenizer: Qwen2Tokenizer, step: int, device: str) -> torch.Tensor:
    """Next-token cross-entropy, answers weighted a hundred times the rest; `layers` is `model.model`, or compiled."""
    ids, weights, targets = (t.to(device) for t in batch(step, tokenizer))
    embedded = word_grid.embed(model.get_input_embeddings(), ids[:, :-1], weights[:, :-1])
    with recipe.autocast(device):
        hidden = layers(inputs_embeds=embedded).last_hidden_state
    wanted = targets[:, 1:] > 0
    with recipe.autocast(device):
        logits = model.lm_head(hidden[wanted])
    losses = F.cross_entropy(logits.float(), ids[:, 1:, 0][wanted], reduction="none")
    return (losses * targets[:, 1:][wanted]).sum() / targets.sum()


def held_out_scene(i: int) -> tuple[Scene, dict]:
    """A held-out scene, and its own caption or, for every second, one with one thing changed."""
    scene = sample_scene(recipe.HELD_OUT_SEEDS + i, "test")
    return scene, scene.metadata if i % 2 else contrast(scene.metadata, np.random.default_rng([i, 9]))


def held_out_order(i: int) -> tuple[Scene, dict]:
    """A scene for a relation that is held out, and this relation; for every second the scene of its opposite."""
    known = records("position", "test")
    record = known[int(np.random.default_rng([i, 8]).integers(len(known)))]
    second, first = record["include"]
    relation = first["position"][0]
    shown = (
        record if i % 2 else caption_record("position", [first["class"], second["class"]], relation=OPPOSITE[relation])
    )
    return make_scene(shown, recipe.HELD_OUT_SEEDS + i, "train"), record


Asked = Callable[[int], tuple[Scene, dict]]


@torch.no_grad()
def answers_right(model: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, count: int, drawn: bool, asked: Asked) -> float:
    """The share of the verifier's questions about scenes, described or drawn in words, that are answered rightly."""
    yes, no = (tokenizer(word, add_special_tokens=False).input_ids[0] for word in ("yes", "no"))
    right = 0
    for i in range(count):
        scene, record = asked(i)
        seen = IMAGE_MARKER if drawn else describe(scene, np.random.default_rng([i, 9]))
        message = question(record["prompt"]).replace(IMAGE_MARKER, seen)
        halves = [
            Words.of_text(tokenizer(half).input_ids)
            for half in chat_text(tokenizer, message, False).split(IMAGE_MARKER)
        ]
        if drawn:
            halves.insert(1, drawing(i, scene, tokenizer))
        ids, weights = (
            torch.from_numpy(np.concatenate([getattr(half, name) for half in halves]))[None].to(model.device)
            for name in ("ids", "weights")
        )
        embedded = word_grid.embed(model.get_input_embeddings(), ids, weights)
        logits = model(inputs_embeds=embedded).logits[0, -1]
        right += bool(logits[yes] > logits[no]) == true_verdict(record, scene).correct
    return right / count


def figures(model: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, count: int) -> dict[str, float]:
    """Shares of held-out questions answered rightly: of all tags, and which of two shapes is left or above."""
    kinds = {"answers": held_out_scene, "orders": held_out_order}
    return {
        f"{name}_right{'_drawn' * drawn}": round(answers_right(model, tokenizer, count, drawn, asked), 4)
        for name, asked in kinds.items() for drawn in (False, True)
    }  # fmt: skip


def main() -> None:
    args = recipe.arguments(STAGE, steps=5000, measure="print the shipped model's figures and train nothing")
    folder = recipe.CKPTS / "language_model"
    if args.measure:
        shipped = Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.float32).to(args.device)
        print(json.dumps(figures(shipped, Qwen2Tokenizer.from_pretrained(folder), 1000)))
        return
    torch.manual_seed(0)
    tokenizer = qwen_tokenizer(corpus(400))
    model = build(tokenizer).to(args.device)
    layers = torch.compile(model.model, dynamic=True)

    def loss_of(step: int) -> torch.Tensor:
        return loss(model, layers, tokenizer, step, args.device)

    recipe.train(
        STAGE, model, loss_of, steps=args.steps, peak=2e-3, warmup=100, restart=RESTART, average=0.99,
        muon=recipe.matrices_of(model.model.layers), evaluate=lambda _: figures(model, tokenizer, 200),
        evaluate_every=200,
    )  # fmt: skip
    model.cpu().eval()
    recipe.log(STAGE, **{f"final_{name}": value for name, value in figures(model, tokenizer, 1000).items()})
    model.bfloat16().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    recipe.command(main)
