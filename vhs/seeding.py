"""Where noise comes from: a seed per (run seed, prompt id, candidate), or the published release's own stream."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def candidate_seed(run_seed: int, prompt_id: int, candidate: int) -> int:
    """A 63-bit seed that depends on its three arguments alone.

    So a candidate's noise is the same whatever the order of the prompts, the shard, the number of candidates or
    where a run was resumed. (torch's CPU generator uses the seed's low 32 bits.)
    """
    name = f"vhs noise {run_seed} {prompt_id} {candidate}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest()) >> 1


def draw_noise(generators: Sequence[torch.Generator], draws: int, shape: Sequence[int]) -> torch.Tensor:
    """Unit normal float32 on the CPU, (N, draws, C, h, w): the next `draws` latents of each generator, in order."""
    import torch

    return torch.stack([torch.cat([torch.randn((1, *shape), generator=g) for _ in range(draws)]) for g in generators])


def seeded_noise(seeds: Sequence[int], steps: int, shape: Sequence[int]) -> torch.Tensor:
    """Noise of N candidates for a generation of `steps` denoising steps: unit normal float32 on the CPU.

    (N, C, h, w) for one step. For more, (N, steps, C, h, w): draw 0 is the start, draw k is what the scheduler adds
    after step k. Draw 0 is the same for any number of steps.
    """
    import torch

    noise = draw_noise([torch.Generator().manual_seed(seed) for seed in seeds], steps, shape)
    return noise[:, 0] if steps == 1 else noise


def published_seeds(run_seed: int, num_samples: int) -> list[int]:
    """The release's seeds, one generator per candidate: the first n of any longer list."""
    import numpy as np

    return [int(seed) for seed in np.random.default_rng(run_seed).integers(0, 2**32 - 1, size=num_samples)]


def published_order(run_seed: int, prompts: int, shard: int = 0, shards: int = 1) -> list[int]:
    """Positions in the prompt file that process `shard` of `shards` works on, in the release's order.

    A seeded permutation cut into contiguous slices; the first `prompts % shards` processes take one more.
    """
    import numpy as np

    order = np.random.default_rng(run_seed).permutation(prompts)
    size, extra = divmod(prompts, shards)
    start = shard * size + min(shard, extra)
    return [int(index) for index in order[start : start + size + (shard < extra)]]


class PublishedNoise:
    """The published release's noise (`noise: published`): it depends on shard and order, not on the prompt alone.

    Every candidate owns one generator for the whole run; each prompt takes 1 + steps latents from it (the last one is
    drawn by the scheduler and never used). A prompt's noise is reached by drawing and dropping what the prompts before
    it in this process's slice would have taken, so nothing has to be generated first and a resumed run is the same.
    """

    def __init__(
        self,
        run_seed: int,
        num_samples: int,
        prompts: int,
        latent_shape: Sequence[int],
        steps: int = 1,
        shard: int = 0,
        shards: int = 1,
    ) -> None:
        self.order = published_order(run_seed, prompts, shard, shards)
        self.seeds = published_seeds(run_seed, num_samples)
        self._positions = {prompt: position for position, prompt in enumerate(self.order)}
        self._steps = steps
        self._shape = tuple(latent_shape)
        self._rewind()

    def noise(self, prompt_id: int) -> torch.Tensor:
        """Noise of every candidate of the prompt at position `prompt_id` of the file, shaped as `seeded_noise` is.

        Raises KeyError for a prompt of another shard. Cheap in the order of `order`; any other order starts again.
        """
        position = self._positions[prompt_id]
        if position < self._next:
            self._rewind()
        for _ in range(position - self._next):
            draw_noise(self._generators, self._steps + 1, self._shape)
        self._next = position + 1
        noise = draw_noise(self._generators, self._steps + 1, self._shape)[:, :-1]
        return noise[:, 0] if self._steps == 1 else noise

    def _rewind(self) -> None:
        import torch

        self._generators = [torch.Generator().manual_seed(seed) for seed in self.seeds]
        self._next = 0
