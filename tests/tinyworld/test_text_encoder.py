"""What the text encoder is pretrained to read agrees with GenEval's metadata, for every caption of the tiny world."""

import pytest
import torch

from vhs.records import TAGS
from vhs.tinyworld import sana, text_encoder
from vhs.tinyworld.scenes import NUMBERS, all_records
from vhs.tinyworld.worlds import WORLDS


def expected(record):
    """The same slots, from the metadata instead of the words."""
    include = record["include"]
    first, relation = include[0], "none"
    if record["tag"] == "position":
        first, relation = include[1], include[1]["position"][0]
    elif len(include) == 2:
        relation = "and"
    second = next((item for item in include if item is not first), None)

    def has(item: dict | None) -> str:
        return item.get("color") or NUMBERS.get(item["count"], "none") if item else "none"

    return {
        "first": first["class"], "first_has": has(first), "relation": relation,
        "second": second["class"] if second else "none", "second_has": has(second),
    }  # fmt: skip


@pytest.mark.parametrize("tag", TAGS)
def test_the_slots_of_a_caption_are_those_of_its_metadata(tag):
    for record in all_records(tag):
        assert text_encoder.read(record["prompt"]) == expected(record), record["prompt"]


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_places_are_the_tokens_of_the_shapes(world):
    tokens = world.tokenizer()
    texts = [
        "a photo of three crosses",
        "a photo of an orange star and a blue ring",
        "a photo of a moon left of a circle",
    ]
    ids, _, places, truth = text_encoder.table(tokens, texts)
    words = [[tokens.decode(ids[i, place]).strip() for place in places[i]] for i in range(3)]
    assert words == [["crosses", "crosses"], ["star", "ring"], ["moon", "circle"]]
    assert text_encoder.own_truth(truth).tolist()[1] == [text_encoder.ATTRIBUTES.index(c) for c in ("orange", "blue")]


def test_right_needs_every_slot_and_both_shapes():
    truth = torch.tensor([text_encoder.targets("a photo of a red star and a blue ring")] * 3)
    whole = torch.cat([torch.eye(size)[truth[:, i]] for i, size in enumerate(text_encoder.SIZES)], 1)
    own = torch.eye(len(text_encoder.ATTRIBUTES))[text_encoder.own_truth(truth)]
    whole[1, 0], own[2, 1] = 9.0, own[2, 0]
    wrong_first = truth[1, 0] != 0
    assert text_encoder.right(whole, own, truth).tolist() == [True, not wrong_first, False]


def test_block_7_alone_predicts_the_sample():
    """The early head sees nothing of later blocks, and its gradient reaches none of them."""
    torch.manual_seed(0)
    model = sana.TextToLatent(704)
    x, ids = torch.randn(2, 16, 8, 8), torch.randint(5, 600, (2, 16))
    _, guess, logits = model.with_early(x, torch.ones(2), ids, torch.ones(2, 16, dtype=torch.long))
    assert guess.shape == x.shape
    assert logits.shape == (2, sum(sana.SIZES), 8, 8)
    (guess.square().mean() + logits.square().mean()).backward()
    reached = [block.attn1.to_q.weight.grad is not None for block in model.transformer.transformer_blocks]
    assert reached == [index <= sana.EARLY_BLOCK for index in range(20)]
