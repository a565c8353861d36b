"""How a generator is to run: the part of a run's configuration that it reads, checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from vhs.errors import ConfigError

MAX_STEPS = 8
DTYPES = ("bfloat16", "float16", "float32")
OFFLOADS = ("none", "model")


@dataclass(frozen=True)
class GeneratorSettings:
    """Keys of a run's configuration, by the same names; docs/configuration.md has their units and choices.

    None means the pipeline's own default for `guidance_scale` (4.5), `intermediate_timesteps` (1.3),
    `complex_human_instruction` (SANA's long instruction) and `max_sequence_length` (300), the last step for
    `hidden_step`, and all candidates at once for `micro_batch`. `hidden_step` counts from 1.
    `complex_human_instruction` is also true (the same), false (none), a line or a list of lines.
    """

    image_width: int = 1024
    image_height: int = 1024
    num_inference_steps: int = 1
    hidden_step: int | None = None
    intermediate_timesteps: float | None = None
    guidance_scale: float | None = None
    complex_human_instruction: bool | str | Sequence[str] | None = None
    max_sequence_length: int | None = None
    text_softcapping: bool = False
    use_resolution_binning: bool | None = False
    sana_lora_weights: str | None = None
    micro_batch: int | None = None
    offload: str = "none"
    device: str = "cpu"
    dtype: str = "float32"

    @classmethod
    def from_config(cls, config: Any) -> GeneratorSettings:
        """Reads the attributes it knows from any object; what the object lacks keeps its default.

        `device: auto` is CUDA where there is one, `dtype: auto` float32 on the CPU and bfloat16 elsewhere.
        """
        values = {field.name: getattr(config, field.name, field.default) for field in fields(cls)}
        if values["device"] == "auto":
            values["device"] = _best_device()
        if values["dtype"] == "auto":
            values["dtype"] = "float32" if values["device"] == "cpu" else "bfloat16"
        return cls(**values)

    def __post_init__(self) -> None:
        """Raises ConfigError for a value that no generator could run with."""
        _whole("num_inference_steps", self.num_inference_steps, 1, MAX_STEPS)
        _whole("image_width", self.image_width, 1)
        _whole("image_height", self.image_height, 1)
        if self.hidden_step is not None:
            _whole("hidden_step", self.hidden_step, 1, self.num_inference_steps)
        if self.micro_batch is not None:
            _whole("micro_batch", self.micro_batch, 1)
        if self.max_sequence_length is not None:
            _whole("max_sequence_length", self.max_sequence_length, 1)
        _choice("dtype", self.dtype, DTYPES)
        _choice("offload", self.offload, OFFLOADS)
        if self.num_inference_steps == 2 and not 0 < (self.intermediate_timesteps or 1.3) < 1.57080:
            raise ConfigError(f"intermediate_timesteps: {self.intermediate_timesteps} is not between 0 and 1.5708")

    @property
    def step(self) -> int:
        """The denoising step, from 1, whose hidden state is captured."""
        return self.hidden_step or self.num_inference_steps


def _best_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def check_device(device: str) -> str:
    """`device`, once torch can use it; raises ConfigError where it is absent or unknown."""
    import torch

    kind = device.split(":")[0]
    if kind not in ("cpu", "cuda", "mps"):
        raise ConfigError(f"device: {device} is not known; use cpu, cuda, cuda:<n> or mps")
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available[kind]:
        raise ConfigError(f"device: {device} was asked for but torch sees none here; use device: cpu")
    index = device.partition(":")[2]
    if kind == "cuda" and index and not (index.isdigit() and int(index) < torch.cuda.device_count()):
        raise ConfigError(f"device: {device} does not exist; torch sees {torch.cuda.device_count()} cuda device(s)")
    return device


def _whole(key: str, value: Any, low: int, high: int | None = None) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < low or (high is not None and value > high):
        span = f"from {low} to {high}" if high is not None else f"of at least {low}"
        raise ConfigError(f"{key}: {value!r} is not a whole number {span}")


def _choice(key: str, value: Any, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ConfigError(f"{key}: {value!r} is not one of {', '.join(choices)}")
