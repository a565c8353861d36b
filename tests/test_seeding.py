"""Noise: a function of (seed, prompt, candidate), or the published release's stream exactly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vhs.seeding import PublishedNoise, candidate_seed, published_order, published_seeds, seeded_noise

GOLDEN = Path(__file__).parent / "goldens" / "D"
SHAPE = (8, 8, 8)


def golden_noise(steps: int, prompt: int) -> torch.Tensor:
    """(4, steps, 8, 8, 8): what the release drew and used for a prompt of golden D."""
    tensors = load_file(GOLDEN / f"tensors_steps{steps}.safetensors")
    names = ["init_noise", "scheduler_noise_step0"][:steps]
    return torch.stack([torch.cat([tensors[f"prompt{prompt}.cand{c}.{name}"] for name in names]) for c in range(4)])


def test_a_candidates_seed_is_stable_and_depends_on_all_three() -> None:
    assert candidate_seed(42, 0, 0) == 6126575522918263527
    seeds = {candidate_seed(s, p, c) for s in range(5) for p in range(20) for c in range(20)}
    assert len(seeds) == 2000 and all(0 <= seed < 2**63 for seed in seeds)
    assert len({seed & 0xFFFFFFFF for seed in seeds}) == 2000  # what torch's CPU generator keeps of them


def test_seeded_noise_depends_on_its_own_seed_only() -> None:
    both, alone = seeded_noise([5, 6], 1, SHAPE), seeded_noise([6], 1, SHAPE)
    assert both.shape == (2, *SHAPE) and both.dtype == torch.float32
    assert torch.equal(both[1], alone[0]) and not torch.equal(both[0], both[1])


def test_more_steps_draw_more_and_start_alike() -> None:
    noise = seeded_noise([5, 6], 3, SHAPE)
    assert noise.shape == (2, 3, *SHAPE)
    assert torch.equal(noise[:, 0], seeded_noise([5, 6], 1, SHAPE))
    assert not torch.equal(noise[:, 1], noise[:, 2])


def test_published_seeds_and_order_are_the_releases() -> None:
    cases = json.loads((GOLDEN / "cases.json").read_text())["steps1"]
    assert published_seeds(42, 4) == cases["sample_seeds"]
    assert published_seeds(42, 2) == cases["sample_seeds"][:2]
    assert published_order(42, 2) == cases["order_of_prompt_indices"]


@pytest.mark.parametrize("steps", [1, 2])
def test_published_noise_is_the_releases_in_one_process(steps: int) -> None:
    noise = PublishedNoise(42, 4, prompts=2, latent_shape=SHAPE, steps=steps)
    assert noise.order == published_order(42, 2)
    for prompt in noise.order:
        assert torch.equal(noise.noise(prompt).reshape(4, steps, *SHAPE), golden_noise(steps, prompt))


def test_published_noise_of_a_prompt_needs_no_earlier_one() -> None:
    last = PublishedNoise(42, 4, prompts=2, latent_shape=SHAPE).order[-1]
    resumed = PublishedNoise(42, 4, prompts=2, latent_shape=SHAPE)
    assert torch.equal(resumed.noise(last)[:, None], golden_noise(1, last))
    assert torch.equal(resumed.noise(last)[:, None], golden_noise(1, last))  # asked again: rewound, not moved on


def test_published_noise_of_a_prompt_is_the_same_in_any_order() -> None:
    straight, jumping = (PublishedNoise(42, 2, prompts=5, latent_shape=(1, 2, 2)) for _ in range(2))
    expected = [straight.noise(prompt) for prompt in straight.order]
    for position in (0, 2, 4, 3, 1):
        assert torch.equal(jumping.noise(straight.order[position]), expected[position])


def test_published_noise_of_a_shard_starts_with_its_first_prompt() -> None:
    """In process 1 of 2, prompt 0 comes first and takes the first draws: those of prompt 1 in a single process."""
    shard = PublishedNoise(42, 4, prompts=2, latent_shape=SHAPE, shard=1, shards=2)
    assert shard.order == [0]
    assert torch.equal(shard.noise(0)[:, None], golden_noise(1, 1))
    with pytest.raises(KeyError):
        shard.noise(1)


@pytest.mark.parametrize("prompts, shards", [(10, 3), (553, 8), (2, 4), (7, 7)])
def test_shards_are_contiguous_slices_that_cover_every_prompt_once(prompts: int, shards: int) -> None:
    slices = [published_order(1, prompts, shard, shards) for shard in range(shards)]
    assert [prompt for part in slices for prompt in part] == published_order(1, prompts)
    sizes = [len(part) for part in slices]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] - sizes[-1] <= 1
