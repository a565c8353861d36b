"""From a run's keys to the arguments of a pipeline's `__call__`, checked against its signature before anything
loads."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vhs.config.yamlfile import nearest
from vhs.errors import ConfigError, first_line
from vhs.generators.settings import GeneratorSettings

if TYPE_CHECKING:
    from vhs.generators.description import Description

OURS = {
    "prompt": "annotation",
    "num_images_per_prompt": "num_samples",
    "num_inference_steps": "num_inference_steps",
    "timesteps": "timesteps",
    "guidance_scale": "guidance_scale",
    "height": "image_height",
    "width": "image_width",
    "generator": "seed",
    "latents": "seed",
    "use_resolution_binning": "image_width and image_height",
    "max_sequence_length": "max_sequence_length",
    "complex_human_instruction": "complex_human_instruction",
    "intermediate_timesteps": "intermediate_timesteps",
}
"""Arguments that have a key of their own."""


@dataclass(frozen=True)
class PipelineSettings(GeneratorSettings):
    """`GeneratorSettings` and what only a pipeline of any family has; the keys have the same names.

    `block` is the path of the block that is read (None: the verifier's). `timesteps` replaces the scheduler's own.
    `scheduler` is a class of diffusers, or a mapping of its configuration's values with `class`. `pipeline_arguments`
    are further arguments of the pipeline's `__call__`.
    """

    block: str | None = None
    timesteps: tuple[float, ...] | None = None
    scheduler: str | Mapping[str, Any] | None = None
    pipeline_arguments: Mapping[str, Any] = field(default_factory=dict)


def call_arguments(description: Description, settings: PipelineSettings) -> dict[str, Any]:
    """The arguments that every call of the pipeline gets. Raises ConfigError, naming the key, for what it does not
    take."""
    taken = description.parameters
    arguments = {
        "num_inference_steps": settings.num_inference_steps,
        "height": settings.image_height,
        "width": settings.image_width,
        "return_dict": False,
        **description.family.arguments,
        **_further(description, settings.pipeline_arguments),
        **_guidance(description, settings),
        **_schedule(description, settings),
    }
    if settings.use_resolution_binning:
        size = "give image_width and image_height that it was trained on"
        raise ConfigError(f"use_resolution_binning: works with generator: Sana-Sprint only; {size}")
    if "use_resolution_binning" in taken:
        arguments["use_resolution_binning"] = False
    if settings.max_sequence_length is not None:
        _require(description, "max_sequence_length", "max_sequence_length")
        arguments["max_sequence_length"] = settings.max_sequence_length
    instruction = settings.complex_human_instruction
    if "complex_human_instruction" in taken and instruction not in (None, True):
        arguments["complex_human_instruction"] = [instruction] if isinstance(instruction, str) else instruction or None
    return arguments


def build_scheduler(description: Description, settings: PipelineSettings) -> Any:
    """The folder's scheduler, or the one that `scheduler` names, ready for the run's steps.

    Raises ConfigError for a class that does not exist, steps it refuses, or one that calls the network twice a step.
    """
    scheduler = description.skeleton.scheduler
    if settings.scheduler:
        scheduler = _named_scheduler(scheduler, settings.scheduler)
    if getattr(scheduler, "order", 1) != 1:
        raise ConfigError(
            f"scheduler: {type(scheduler).__name__} calls the network more than once per step; a block of one step is "
            "read, so choose a scheduler of first order (EulerDiscreteScheduler, DPMSolverMultistepScheduler, ...)"
        )
    _require_steps(scheduler, settings)
    return scheduler


def _named_scheduler(own: Any, wanted: str | Mapping[str, Any]) -> Any:
    import diffusers

    values = {"class": wanted} if isinstance(wanted, str) else dict(wanted)
    name = values.pop("class", type(own).__name__)
    found = getattr(diffusers, name, None)
    names = [entry for entry in dir(diffusers) if entry.endswith("Scheduler")]
    if name not in names or found is None:
        raise ConfigError(f"scheduler: diffusers has no {name}{nearest(name, names)}")
    known = inspect.signature(found.__init__).parameters
    for key in values:
        if key not in known:
            raise ConfigError(f"scheduler: {name} has no value {key}{nearest(key, known)}")
    return found.from_config(own.config, **values)


def _require_steps(scheduler: Any, settings: PipelineSettings) -> None:
    """The scheduler takes the run's number of steps, or its timesteps. A pipeline's own shift is not known here."""
    name, known = type(scheduler).__name__, inspect.signature(scheduler.set_timesteps).parameters
    extra = {"mu": 1.0} if "mu" in known and scheduler.config.get("use_dynamic_shifting") else {}
    if settings.timesteps is not None and "timesteps" not in known:
        raise ConfigError(
            f"timesteps: {name} does not take any; choose another scheduler (scheduler: DDPMScheduler, ...)"
        )
    if "intermediate_timesteps" in known:
        extra |= {"intermediate_timesteps": _intermediate(settings)}
    chosen = {"timesteps": list(settings.timesteps)} if settings.timesteps is not None else {}
    try:
        scheduler.set_timesteps(**(chosen or {"num_inference_steps": settings.num_inference_steps}), **extra)
    except (ValueError, IndexError, AssertionError, TypeError, RuntimeError) as error:
        key = "timesteps" if chosen else "num_inference_steps"
        value = list(settings.timesteps) if chosen else settings.num_inference_steps
        raise ConfigError(f"{key}: {name} refuses {value}: {first_line(error)}") from None


def _schedule(description: Description, settings: PipelineSettings) -> dict[str, Any]:
    """Steps other than the scheduler's own."""
    chosen: dict[str, Any] = {}
    if settings.timesteps is not None:
        _require(
            description, "timesteps", "timesteps", "; its steps can be given as pipeline_arguments: {sigmas: [...]}"
        )
        chosen["timesteps"] = list(settings.timesteps)
    given = settings.timesteps or settings.pipeline_arguments.get("sigmas")
    if given is not None and len(given) != settings.num_inference_steps:
        key = "timesteps" if settings.timesteps else "pipeline_arguments"
        raise ConfigError(
            f"{key}: {len(given)} steps are given, but num_inference_steps is {settings.num_inference_steps}"
        )
    if "intermediate_timesteps" in description.parameters:
        chosen["intermediate_timesteps"] = _intermediate(settings, description.default("intermediate_timesteps"))
    return chosen


def _intermediate(settings: PipelineSettings, default: float = 1.3) -> float | None:
    """SANA-Sprint's scheduler refuses it unless there are two steps."""
    return (settings.intermediate_timesteps or default) if settings.num_inference_steps == 2 else None


def _guidance(description: Description, settings: PipelineSettings) -> dict[str, Any]:
    if settings.guidance_scale is None:
        return {}
    family = description.family
    _require(description, family.guidance, "guidance_scale")
    if family.guided_by and not description.network.config.get(family.guided_by):
        other = "; pipeline_arguments: {true_cfg_scale: ..., negative_prompt: ...} guides by a second pass"
        other = other if "true_cfg_scale" in description.parameters else ""
        raise ConfigError(
            f"guidance_scale: has no effect, this network was distilled without guidance ({family.guided_by} is false "
            f"in {description.network_name}/config.json); leave it out{other}"
        )
    return {family.guidance: settings.guidance_scale}


def _further(description: Description, given: Mapping[str, Any]) -> dict[str, Any]:
    known = [name for name, parameter in description.parameters.items() if parameter.kind is not parameter.VAR_KEYWORD]
    for name in given:
        if name in OURS and not (name == "guidance_scale" and description.family.guidance != name):
            raise ConfigError(f"pipeline_arguments: {name} is set by {OURS[name]}")
        if name not in known or name == "self":
            raise ConfigError(f"pipeline_arguments: {description.name} does not take {name}{nearest(name, known)}")
        if name in ("output_type", "return_dict") or name.startswith("callback") or name.endswith(("_embeds", "_mask")):
            raise ConfigError(f"pipeline_arguments: {name} is not a setting of a run; leave it out")
    return dict(given)


def _require(description: Description, argument: str, key: str, remedy: str = "") -> None:
    if argument not in description.parameters:
        raise ConfigError(f"{key}: {description.name} does not take {argument}; leave it out{remedy}")
