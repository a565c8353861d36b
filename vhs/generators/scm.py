"""SANA-Sprint's sampler as pure functions on tensors.

Time is TrigFlow's t in [0, pi/2]: x_t = cos(t) x_0 + sin(t) z, with z ~ N(0, sigma_data^2). The network was pretrained
as a flow matching model and still speaks that language; SANA-Sprint (arXiv 2503.09641, section 3.1) converts between
the two: flow time s = sin t / (cos t + sin t), flow input x_s = x_t / sigma_data * sqrt(s^2 + (1 - s)^2), and back.
In float32 the results equal diffusers' `SanaSprintPipeline` and `SCMScheduler` to the last bit.
"""

from __future__ import annotations

import torch

START = 1.57080
"""Where sampling starts. Not pi/2 to the last digit: the value the published pipeline uses."""


def timesteps(steps: int, intermediate: float, device: torch.device | str = "cpu") -> torch.Tensor:
    """(steps + 1,) float32 from START down to 0; `intermediate` is the second of two steps and unused otherwise."""
    if steps == 2:
        return torch.tensor([START, intermediate, 0.0], device=device)
    return torch.linspace(START, 0, steps + 1, device=device)


def flow_time(t: torch.Tensor) -> torch.Tensor:
    """TrigFlow time to flow matching time, both any shape."""
    return torch.sin(t) / (torch.cos(t) + torch.sin(t))


def flow_input(x_t: torch.Tensor, s: torch.Tensor, sigma_data: float) -> torch.Tensor:
    """What the transformer sees: (N, C, h, w) float32, at flow time `s` (scalar tensor)."""
    return x_t / sigma_data * torch.sqrt(s**2 + (1 - s) ** 2)


def trig_velocity(velocity: torch.Tensor, x_s: torch.Tensor, s: torch.Tensor, sigma_data: float) -> torch.Tensor:
    """The transformer's flow velocity (noise minus data) as TrigFlow's sigma_data * F(x_t / sigma_data, t), float32."""
    scaled = (1 - 2 * s) * x_s + (1 - 2 * s + 2 * s**2) * velocity
    return (scaled / torch.sqrt(s**2 + (1 - s) ** 2)).float() * sigma_data


def denoised(x_t: torch.Tensor, velocity: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """The data x_0 that `velocity` (from `trig_velocity`) points to from x_t."""
    return torch.cos(t) * x_t - torch.sin(t) * velocity


def renoised(x_0: torch.Tensor, unit_noise: torch.Tensor, t: torch.Tensor, sigma_data: float) -> torch.Tensor:
    """x_t on the way from x_0 to fresh unit normal noise: where the next step starts."""
    # Scaled before it is mixed in, as diffusers does: in another order the last bit differs.
    return torch.cos(t) * x_0 + torch.sin(t) * (unit_noise * sigma_data)
