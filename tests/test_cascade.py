"""Several picks, cascades and ensembles, with the golden's real generator: what runs for whom, and who is chosen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vhs import BestOfN
from vhs.generators.sana_sprint import SanaSprint
from vhs.records import Score
from vhs.select import top_k
from vhs.verifiers import RandomVerifier
from vhs.verifiers.ensemble import Ensemble

GOLDEN_D = Path(__file__).parent / "goldens" / "D"
TEXT = "a photo of a red circle and a blue star"


@pytest.fixture(scope="module")
def generator() -> SanaSprint:
    return SanaSprint.from_pretrained(GOLDEN_D / "sana-sprint-tiny", image_width=64, image_height=64)


class Mean:
    """Scores N latents, hidden states or pictures by their mean."""

    micro_batch = None

    def __init__(self, reads: str, block: int | None = None, width: int | None = None) -> None:
        self.reads, self.block, self.width = reads, block, width
        self.seen: list[int] = []

    def score(self, prompt: str, features: Any) -> Score:
        self.seen.append(len(features))
        return Score.plain([float(np.asarray(one, dtype=np.float32).mean()) for one in features])


@pytest.fixture
def passes(generator: SanaSprint) -> Iterator[dict[str, list[int]]]:
    """The batches that went through a late block of the transformer, and through the decoder."""
    seen: dict[str, list[int]] = {"late": [], "decoder": []}
    modules = {"late": generator.transformer.transformer_blocks[9], "decoder": generator.pipeline.vae.decoder}
    handles = [
        module.register_forward_pre_hook(lambda _, inputs, name=name: seen[name].append(len(inputs[0])))
        for name, module in modules.items()
    ]
    yield seen
    for handle in handles:
        handle.remove()


def hidden() -> Mean:
    return Mean("hidden", block=7, width=48)


def test_a_cascade_finishes_and_decodes_only_what_the_first_verifier_keeps(generator, passes) -> None:
    first, second = hidden(), Mean("image")
    result = BestOfN(generator, first, num_samples=6, reranker=second, keep=3)(TEXT)
    kept = top_k(result.scores, 3)
    assert (first.seen, second.seen) == ([6], [3]) and passes == {"late": [3], "decoder": [3]}
    assert set(result.rerank_scores) == set(kept)
    assert result.best_index == max(kept, key=result.rerank_scores.get) and list(result.images) == [result.best_index]


@pytest.mark.parametrize("first", [hidden, lambda: Mean("latent"), lambda: Mean("image"), lambda: RandomVerifier(1)])
def test_a_cascade_has_the_same_winner_in_both_modes(generator, first) -> None:
    results = [
        BestOfN(generator, first(), num_samples=5, mode=mode, reranker=Mean("image"), keep=3)(TEXT)
        for mode in ("prod", "dev")
    ]
    prod, dev = results
    assert prod.best_index == dev.best_index and set(prod.rerank_scores) == set(dev.rerank_scores)
    assert len(dev.images) == 5 and prod.rerank_scores == pytest.approx(dev.rerank_scores, abs=0.5)


def test_keeping_one_is_the_first_verifier_alone_and_keeping_all_the_second(generator) -> None:
    alone = BestOfN(generator, hidden(), num_samples=5)(TEXT).best_index
    assert BestOfN(generator, hidden(), num_samples=5, reranker=Mean("image"), keep=1)(TEXT).best_index == alone
    second = BestOfN(generator, Mean("image"), num_samples=5)(TEXT).best_index
    assert BestOfN(generator, hidden(), num_samples=5, reranker=Mean("image"), keep=5)(TEXT).best_index == second


@pytest.mark.parametrize(("selection", "groups"), [({"top_k": 4}, None), ({"tournament": 4}, 4)])
def test_several_picks_are_finished_and_decoded_in_one_batch(generator, passes, selection, groups) -> None:
    result = BestOfN(generator, hidden(), num_samples=8, selection=selection)(TEXT)
    scores = result.scores
    if groups:
        expected = {max(pair, key=scores.__getitem__) for pair in ((0, 1), (2, 3), (4, 5), (6, 7))}
    else:
        expected = set(top_k(scores, 4))
    assert set(result.picks) == set(result.images) == expected and passes == {"late": [4], "decoder": [4]}
    assert result.picks[0] == result.best_index == max(expected, key=scores.__getitem__)


def test_several_picks_of_a_cascade_are_chosen_by_its_second_verifier(generator) -> None:
    best = BestOfN(generator, hidden(), num_samples=6, reranker=Mean("image"), keep=4, selection={"top_k": 2})
    result = best(TEXT)
    second = sorted(result.rerank_scores, key=result.rerank_scores.get, reverse=True)
    assert list(result.picks) == second[:2] and set(result.images) == set(second[:2])


class Fixed(Mean):
    def __init__(self, values: list[float]) -> None:
        super().__init__("image")
        self.values = values

    def score(self, prompt: str, features: Any) -> Score:
        return Score.plain(self.values)


def test_an_ensemble_scores_by_the_mean_of_ranks_and_reads_what_its_members_read(generator) -> None:
    ensemble = Ensemble([Fixed([0.1, 0.2, 0.3]), Fixed([900, 100, 800])], "image")
    result = BestOfN(generator, ensemble, num_samples=3)(TEXT)
    assert result.scores == [1.0, 0.5, 1.5] and result.best_index == 2
    scores = Ensemble([Fixed([0.1, 0.2, 0.3]), Fixed([900, 100, 800])], "image", mean="scores")
    assert BestOfN(generator, scores, num_samples=3)(TEXT).best_index == 0
    both = Ensemble([hidden(), hidden()], "hidden")
    assert (both.block, both.width) == (7, 48)
    assert torch.isfinite(BestOfN(generator, both, num_samples=3)(TEXT).score.score).all()
