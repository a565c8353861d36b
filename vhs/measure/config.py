"""Configuration of `vhs benchmark run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from vhs.checkpoints.bounds import read_config
from vhs.config.keys import key
from vhs.config.run import DeviceKeys, RunConfig, load_config
from vhs.config.yamlfile import combination_error
from vhs.paths import find
from vhs.verifiers.feature_names import blocks_in

Counts = Annotated[list[Annotated[int, Field(ge=1, le=65536)]], Field(min_length=1)]
Part = Literal["text_encoder", "decoder", "language_model", "tower", "detector"]
OWN = ("architecture", "tower")
"""What a verifier here says beside keys of a run."""


class BenchConfig(DeviceKeys):
    """benchmark.py run: what is timed, how often."""

    name: str = Field(pattern=r"^[^/\\\s.][^/\\\s]*$")
    """Name of the files that are written."""
    run: str = key(path="file", min_length=1)
    """Run configuration whose generator is measured, under its keys."""
    verifiers: dict[str, dict[str, Any]] = Field(min_length=1)
    """By what they read (`hidden_7`, `latent`, `clip`): the run's keys that name each, and for random weights
    `architecture` (a shipped name, or a config.json), with `clip` also `tower`."""
    num_samples: Counts = [1, 8, 32]
    """The N that are measured; of a part, its batch sizes."""
    part: Part | None = None
    """One model alone instead of best-of-N, with random weights: a forward pass at the size that the run has for it."""
    random_weights: bool = False
    """Models of the architectures with random weights, made on the device: cost does not depend on weights."""
    compile: bool = False
    """Compile the models, as the run's key of the same name."""
    prompt: str = "a photo of a red circle and a blue star"
    """The prompt that is generated."""
    warmup: int = Field(1, ge=1, le=10_000)
    """Calls before the first that counts."""
    repeats: int = Field(5, ge=1, le=10_000)
    """Calls that are timed; a latency is their median, 5th and 95th percentile."""
    output_path: str = Field("./outputs/benchmarks", min_length=1)
    """Folder of the JSON, CSV and Markdown files."""

    @model_validator(mode="after")
    def _combinations(self) -> BenchConfig:
        for label in self.verifiers:
            if label not in ("latent", "clip") and not blocks_in(label):
                raise combination_error("verifiers", f"{label!r} is not a choice; hidden_<block>, latent or clip is")
        if self.part and not self.random_weights:
            raise combination_error("part", "is measured with random weights; set random_weights: true")
        for label, values in self.verifiers.items():
            needed = [] if not self.random_weights else list(OWN[: 2 if label == "clip" else 1])
            if missing := [name for name in needed if name not in values]:
                raise combination_error("verifiers", f"{label} has no {missing[0]}, which random weights are made from")
        return self

    def of_run(self, label: str | None = None) -> RunConfig:
        """The run's configuration, with a verifier or without. Raises ConfigError."""
        shared = {"device": self.device, "dtype": self.dtype, "micro_batch": self.micro_batch, "offload": self.offload}
        shared["compile"] = self.compile
        config = load_config(self.run).changed(**shared, generation_mode="prod", num_samples=1, latent_verifier=False)
        if label is None:
            return config
        keys = {name: value for name, value in self.verifiers[label].items() if name not in OWN}
        if not keys:  # of an architecture alone
            return config
        return config.changed(latent_verifier=True, **keys)


def read_architecture(name: str) -> dict[str, Any]:
    """A config.json of vhs/verifiers/architectures by its name, or any by its path."""
    own = Path(__file__).parents[1] / "verifiers" / "architectures" / f"{name}.json"
    return read_config(own if own.is_file() else find(name))
