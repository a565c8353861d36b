"""The second world's shipped weights: the run that README names works, and what its verifiers read is on record."""

import json
from pathlib import Path

import pytest

from vhs import BestOfN
from vhs.tinyworld.worlds import PIXART

PROMPTS = ("a photo of a red circle", "a photo of two stars")


@pytest.mark.parametrize("verifier", ["tiny_pixart_hidden_5", "tiny_pixart_ae", "tiny_pixart_clip"])
def test_only_the_winner_is_finished_and_it_is_the_same_one(verifier):
    keys = {"num_samples": 3, "latent_verifier_name": verifier}
    every = BestOfN.from_config("configs/tiny_pixart.yaml", {**keys, "generation_mode": "dev"})
    winner = BestOfN.from_config("configs/tiny_pixart.yaml", keys)
    for prompt in PROMPTS:
        whole, alone = every(prompt), winner(prompt)
        assert whole.best_index == alone.best_index and len(alone.images) == 1
        assert len(whole.images) == 3
        assert whole.scores == pytest.approx(alone.scores, abs=1e-5) and len(set(whole.scores)) == 3


@pytest.mark.parametrize("feature", ["hidden_5", "latent"])
def test_a_verifier_of_its_features_records_the_generator_it_was_trained_on(feature):
    record = json.loads((Path(PIXART.verifier(feature)) / "config.json").read_text())["vhs_generator"]
    assert record["pipeline"] == "PixArtAlphaPipeline" and record["steps"] == 1
    assert record.get("block") == ("transformer_blocks.5" if feature == "hidden_5" else None)
