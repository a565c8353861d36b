"""Combinations of a run's keys that cannot run: one line each, that says what would be right."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from vhs.config import selection
from vhs.config.keys import statistics_conflicts

if TYPE_CHECKING:
    from vhs.config.run import RunConfig


def conflicts(config: RunConfig) -> Iterable[tuple[str, str]]:
    """(key, what is wrong and what would be right) for combinations of keys that cannot run."""
    yield from statistics_conflicts(config)
    if config.latent_verifier and not (config.latent_verifier_name or config.latent_verifier_path or config.ensemble):
        yield (
            "latent_verifier",
            "true, but no verifier is named; give latent_verifier_name (see --list-verifiers) "
            "or latent_verifier_path, or set latent_verifier: false",
        )
    if not config.latent_verifier and config.generation_mode == "prod" and config.num_samples > 1:
        yield (
            "latent_verifier",
            f"false leaves nothing to choose by among {config.num_samples} candidates in prod; "
            "set num_samples: 1 or generation_mode: dev",
        )
    if config.budget_ms is not None and not (config.latent_verifier and config.generates):
        yield "budget_ms", "buys candidates to choose among: it needs latent_verifier: true and no imgs_path or re_eval"
    if config.hidden_step is not None and config.hidden_step > config.num_inference_steps:
        yield "hidden_step", f"{config.hidden_step} is past the last of {config.num_inference_steps} denoising steps"
    yield from _sana_sprint_alone(config)
    yield from _several_seeds(config)
    if config.detector == "mmdet" and config.segmentation_ckpt_path and config.segmentation_config_path is None:
        yield "detector", "mmdet needs its configuration file; give segmentation_config_path or detector: transformers"
    if config.offload == "model" and config.device == "cpu":
        yield "offload", "model has nothing to move away from on device: cpu; set offload: none"
    yield from selection.conflicts(config)
    if config.lora_weights and not config.latent_verifier:
        yield (
            "lora_weights",
            "adapts a verifier, but latent_verifier is false; the generator's adapter is sana_lora_weights",
        )


def _sana_sprint_alone(config: RunConfig) -> Iterable[tuple[str, str]]:
    """What `generator: Sana-Sprint` does not have."""
    if config.generator != "Sana-Sprint":
        if config.compile:
            yield "compile", "true is for generator: Sana-Sprint; set compile: false"
        return
    if config.num_inference_steps > 8:
        yield "num_inference_steps", f"{config.num_inference_steps} is not one of 1 to 8, SANA-Sprint's"
    for name in ("network_ckpt", "block", "timesteps", "scheduler", "pipeline_arguments"):
        if getattr(config, name):
            yield name, "is read with generator: diffusers only; leave it out, or set that"


def _several_seeds(config: RunConfig) -> Iterable[tuple[str, str]]:
    """What a run over several seeds cannot be."""
    seeds = config.seeds or []
    if twice := next((seed for seed in seeds if seeds.count(seed) > 1), None):
        yield "seeds", f"{twice} is given twice; each seed is one run"
    if seeds and config.imgs_path:
        yield "seeds", "pictures that are there already (imgs_path) have no seed to choose; leave one of the two out"
