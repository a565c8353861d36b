"""The text encoder learns to read captions, before it is trained on with the teacher.

SANA's Gemma-2 and PixArt's T5 come pretrained. A tiny one that is trained through the teacher alone hardly binds a
colour to its shape (docs/LOG.md). So it first learns to predict, at a caption's last token, what the caption asks for,
and, at the token of a shape, which colour or number that shape has. The linear heads are discarded.
"""

from __future__ import annotations

import re

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from vhs.records import TAGS
from vhs.tinyworld import recipe
from vhs.tinyworld.scenes import COLORS, NUMBERS, RELATIONS, SHAPES, TAG_WEIGHTS, records
from vhs.tinyworld.worlds import SANA, WORLDS, World

STAGE = "text_encoder"
TOKENS = 16
BATCH = 256
ATTRIBUTES = ("none", *COLORS, *NUMBERS.values())
SLOTS = {
    "first": SHAPES, "first_has": ATTRIBUTES, "relation": ("none", "and", *RELATIONS),
    "second": ("none", *SHAPES), "second_has": ATTRIBUTES,
}  # fmt: skip
"""What a caption says: one or two shapes, what each has (a colour or a number), and how they stand."""
SIZES = [len(values) for values in SLOTS.values()]
WORD = re.compile(rf"({'|'.join(SHAPES)})(es|s)?$")


def tokenize(tokens: PreTrainedTokenizerBase, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask, (B, 16) each, padded on the right as the pipeline does."""
    tokens.padding_side = "right"
    out = tokens(texts, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt")
    return out["input_ids"], out["attention_mask"]


def read(caption: str) -> dict[str, str]:
    """The slots of a caption: "a red star and a blue ring" has first star, first_has red, relation and, ..."""
    relation = next((name for name in ("and", *RELATIONS) if f" {name} " in caption), "none")
    sides = re.split(rf" {relation} ", caption) if relation != "none" else [caption]
    slots = {"relation": relation, "second": "none", "second_has": "none"}
    for name, side in zip(("first", "second"), sides, strict=False):
        words = side.split()
        slots[name] = WORD.match(words[-1])[1]
        slots[f"{name}_has"] = next((word for word in words if word in ATTRIBUTES), "none")
    return slots


def targets(caption: str) -> list[int]:
    """The index of each slot's value, in the order of `SLOTS`."""
    slots = read(caption)
    return [values.index(slots[name]) for name, values in SLOTS.items()]


class SlotPredictor(nn.Module):
    """The text encoder with its two heads: what the whole caption says, and what a shape has."""

    def __init__(self, text_encoder: nn.Module):
        super().__init__()
        self.text_encoder = text_encoder
        width = text_encoder.get_input_embeddings().embedding_dim
        self.whole = nn.Linear(width, sum(SIZES))
        self.own = nn.Linear(width, len(ATTRIBUTES))

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, shapes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and mask (B, 16), places of both shapes (B, 2) -> (B, sum of sizes), (B, 2, attributes)."""
        states = self.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        rows = torch.arange(len(ids), device=ids.device)
        return self.whole(states[rows, mask.sum(1) - 1]), self.own(states[rows[:, None], shapes])


def shape_places(tokens: PreTrainedTokenizerBase, ids: torch.Tensor) -> torch.Tensor:
    """(B, 2): the tokens of the first and the last shape, the same one where a caption has a single shape."""
    is_shape = [bool(WORD.match(token.removeprefix("▁"))) for token in tokens.convert_ids_to_tokens(range(len(tokens)))]
    places = torch.tensor(is_shape)[ids].long()
    return torch.stack([places.argmax(1), ids.shape[1] - 1 - places.flip(1).argmax(1)], 1)


def right(whole: torch.Tensor, own: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """(B,) bool: every slot read rightly, at the last token and at the shapes."""
    slots = torch.stack([part.argmax(1) for part in whole.split(SIZES, 1)], 1)
    return (slots == truth).all(1) & (own.argmax(2) == own_truth(truth)).all(1)


def own_truth(truth: torch.Tensor) -> torch.Tensor:
    """(B, 2): what the first and the last shape have."""
    alone = truth[:, 3] == 0
    return torch.stack([truth[:, 1], torch.where(alone, truth[:, 1], truth[:, 4])], 1)


def table(tokens: PreTrainedTokenizerBase, texts: list[str]) -> tuple[torch.Tensor, ...]:
    """Ids, mask, shape places and slot values of captions."""
    ids, mask = tokenize(tokens, texts)
    return ids, mask, shape_places(tokens, ids), torch.tensor([targets(text) for text in texts])


def main() -> None:
    args = recipe.arguments(STAGE, 600, WORLDS)
    world = WORLDS[args.world]
    stage = world.stage(STAGE)
    torch.manual_seed(0)
    tokens = world.tokenizer()
    model = SlotPredictor(world.text_encoder(len(tokens))).to(args.device)
    by_tag = {tag: [record["prompt"] for record in records(tag, "train")] for tag in TAGS}
    ids, mask, places, truth = (
        t.to(args.device) for t in table(tokens, [text for tag in TAGS for text in by_tag[tag]])
    )
    odds = torch.cat([torch.full((len(by_tag[tag]),), TAG_WEIGHTS[tag] / len(by_tag[tag])) for tag in TAGS])
    held = [record["prompt"] for tag in ("colors", "position", "color_attr") for record in records(tag, "test")]
    held_table = [t.to(args.device) for t in table(tokens, held)]

    def loss_of(step: int) -> torch.Tensor:
        chosen = torch.multinomial(odds, BATCH, replacement=True, generator=torch.Generator().manual_seed(step))
        whole, own = model(ids[chosen], mask[chosen], places[chosen])
        parts = whole.split(SIZES, 1)
        loss = sum(F.cross_entropy(part, truth[chosen, i]) for i, part in enumerate(parts))
        return loss + F.cross_entropy(own.flatten(0, 1), own_truth(truth[chosen]).flatten())

    @torch.no_grad()
    def evaluate(step: int) -> dict[str, float]:
        return {"held_out_right": round(right(*model(*held_table[:3]), held_table[3]).float().mean().item(), 4)}

    recipe.train(stage, model, loss_of, steps=args.steps, peak=2e-3, warmup=100, evaluate=evaluate, evaluate_every=250)
    torch.save(model.text_encoder.state_dict(), recipe.WORK / stage / "model.pt")


def load(device: str, world: World = SANA) -> dict[str, torch.Tensor]:
    """The pretrained text encoder's state, from the work folder."""
    return torch.load(recipe.WORK / world.stage(STAGE) / "model.pt", weights_only=True, map_location=device)


if __name__ == "__main__":
    recipe.command(main)
