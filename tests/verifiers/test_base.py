import torch

from vhs.verifiers import NoVerifier, RandomVerifier


def test_no_verifier_ties_all_candidates():
    score = NoVerifier().score("a photo of a bench", 4)
    assert len(score.score.unique()) == 1 and len(score.score) == 4


def test_random_verifier_is_a_function_of_seed_prompt_and_candidate():
    first = RandomVerifier(1).score("a photo of a bench", 8).score
    assert torch.equal(first[:3], RandomVerifier(1).score("a photo of a bench", [None] * 3).score)
    assert len(first.unique()) == 8 and first.min() >= 0 and first.max() < 1
    assert not torch.equal(first, RandomVerifier(2).score("a photo of a bench", 8).score)
    assert not torch.equal(first, RandomVerifier(1).score("a photo of two clocks", 8).score)


def test_random_verifier_is_uniform():
    draws = torch.cat([RandomVerifier(0).score(f"prompt {i}", 50).score for i in range(40)])
    assert abs(draws.mean() - 0.5) < 0.03 and abs(draws.var() - 1 / 12) < 0.01
