"""The tiny CLIP: its loss falls when it learns, and its vision half is a tower that verifiers read."""

import torch
from transformers import AutoTokenizer, CLIPImageProcessor

from vhs.tinyworld import clip_vision, recipe
from vhs.tinyworld.scenes import SIZE, sample_scene
from vhs.training.data.towers import load_tower


def test_it_learns_to_match_and_its_vision_half_loads_as_a_tower(tmp_path):
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(recipe.CKPTS / "language_model")
    tokenizer.padding_side = "right"
    processor = CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})
    model = clip_vision.build(tokenizer)
    scenes = [sample_scene(i) for i in range(12)]
    batch = clip_vision.inputs(scenes, tokenizer, processor, 0)
    assert batch["pixel_values"].shape == (12, 3, SIZE, SIZE) and batch["input_ids"].shape == (12, clip_vision.TOKENS)
    assert (batch["attention_mask"].sum(1) < clip_vision.TOKENS).all(), "no description is cut"
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(25):
        loss = model(**batch, return_loss=True).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    model.vision_model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    features = load_tower(str(tmp_path), -2, "cpu")(clip_vision.pictures_of(scenes[:2]))
    with torch.no_grad():
        states = (
            model.eval().vision_model(batch["pixel_values"][:2], output_hidden_states=True).hidden_states[-2][:, 1:]
        )
    assert features.shape == (2, 64, 96) and torch.allclose(features, states, atol=1e-5)
