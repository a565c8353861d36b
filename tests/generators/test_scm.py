"""The sampler's formulas against diffusers' scheduler and against TrigFlow's definition."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import SCMScheduler

from vhs.generators import scm

SIGMA = 0.5


@pytest.mark.parametrize("steps, intermediate", [(1, None), (2, 1.3), (2, 0.9), (3, None), (8, None)])
def test_timesteps_are_the_schedulers(steps: int, intermediate: float | None) -> None:
    scheduler = SCMScheduler()
    scheduler.set_timesteps(steps, intermediate_timesteps=intermediate)
    assert torch.equal(scm.timesteps(steps, intermediate or 1.3), scheduler.timesteps)


@pytest.mark.parametrize("steps", [1, 2])
def test_timesteps_are_made_where_they_are_needed(steps: int) -> None:
    assert scm.timesteps(steps, 1.3, "meta").device.type == "meta"


def test_a_step_is_the_schedulers() -> None:
    scheduler, generator = SCMScheduler(), torch.Generator().manual_seed(0)
    scheduler.set_timesteps(2, intermediate_timesteps=1.3)
    scheduler.set_begin_index(0)
    x, velocity = torch.randn(2, 3, 4, 4, generator=generator), torch.randn(2, 3, 4, 4, generator=generator)
    state = generator.get_state()
    following, data = scheduler.step(velocity, scheduler.timesteps[0], x, generator=generator, return_dict=False)
    noise = torch.randn(x.shape, generator=generator.set_state(state))
    assert torch.equal(scm.denoised(x, velocity, scm.timesteps(2, 1.3)[0]), data)
    assert torch.equal(scm.renoised(data, noise, scm.timesteps(2, 1.3)[1], SIGMA), following)


@pytest.mark.parametrize("time", [0.1, 0.8, 1.3, 1.5708])
def test_a_perfect_network_gives_the_data_back(time: float) -> None:
    """With x_t = cos t x_0 + sin t z and the true flow velocity z/sigma - x_0/sigma, the denoised data is x_0."""
    generator = torch.Generator().manual_seed(1)
    data, noise = (SIGMA * torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    t = torch.tensor(time, dtype=torch.float64)
    x_t = torch.cos(t) * data + torch.sin(t) * noise
    s = scm.flow_time(t)
    seen = scm.flow_input(x_t, s, SIGMA)
    torch.testing.assert_close(seen, ((1 - s) * data + s * noise) / SIGMA)
    velocity = scm.trig_velocity((noise - data) / SIGMA, seen, s, SIGMA).double()
    torch.testing.assert_close(scm.denoised(x_t, velocity, t), data, atol=1e-6, rtol=0)


def test_flow_time_runs_from_zero_to_one() -> None:
    times = scm.flow_time(torch.tensor([0.0, math.pi / 4, scm.START]))
    torch.testing.assert_close(times, torch.tensor([0.0, 0.5, 1.0]), atol=1e-5, rtol=0)
