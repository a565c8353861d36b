"""How a generator is to run: the part of a run's configuration that it reads, with device and precision settled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from vhs.config.run import GeneratorKeys


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
    micro_batch: int | None = None
    compile: bool = False
    offload: str = "none"
    device: str = "cpu"
    dtype: str = "float32"

    @classmethod
    def of(cls, keys: GeneratorKeys, device: str, dtype: str) -> GeneratorSettings:
        """The settings that a configuration gives, on a device that is there."""
        named = {field.name for field in fields(cls)} & set(type(keys).model_fields)
        values = {name: getattr(keys, name) for name in named}
        if "micro_batch" in values:
            values["micro_batch"] = keys.at_once
        return cls(**{**values, "device": device, "dtype": dtype})

    @property
    def step(self) -> int:
        """The denoising step, from 1, whose hidden state is captured."""
        return self.hidden_step or self.num_inference_steps
