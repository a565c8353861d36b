"""run.json: what a run is, known before its first picture, so that its results can be traced and continued."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from typing import Any

from vhs.checkpoints.hashes import file_hash
from vhs.paths import IN_CHECKOUT, PROJECT
from vhs.resolve import ResolvedRun
from vhs.seeding import published_seeds
from vhs.verifiers.base import reading

PACKAGES = (
    "torch",
    "torchvision",
    "diffusers",
    "transformers",
    "accelerate",
    "huggingface_hub",
    "open_clip_torch",
    "peft",
    "safetensors",
    "numpy",
    "pillow",
)
NOT_OF_A_RUN = {"cont", "re_eval", "overwrite", "launcher", "timeout"}
"""Keys that say what to do with a folder and by whom, not what is in it."""


def describe(run: ResolvedRun) -> dict[str, Any]:
    """What run.json says: configuration with its device and precision, prompts, hashes, seeds, versions."""
    config = run.config
    seeds = {"run": config.seed, "noise": config.noise}
    if config.noise == "published":
        seeds |= {"candidates": published_seeds(config.seed, config.num_samples), "processes": run.process.count}
    names = [judge.name for judge in run.judges]
    others = {judge.name: judge.describe() for judge in run.judges if judge.name != "geneval"}
    return {
        "config": {
            **{key: value for key, value in config.model_dump(mode="json").items() if key not in NOT_OF_A_RUN},
            "device": run.models.device.split(":")[0],
            "dtype": run.models.dtype,
        },
        "prompts": {
            "file": config.annotation,
            "sha256": file_hash(run.annotation),
            "count": len(run.prompts),
            "judged": sum(any(judge.judges(prompt.record) for judge in run.judges) for prompt in run.prompts),
        },
        "verifier": reading(run.models.verifier),
        "geneval": {"runs": "geneval" in names, "reason": run.judge_skipped or ""},
        **({"judges": others} if others else {}),
        "checkpoints": dict(run.hashes),
        **run.models.verifiers,
        "seeds": seeds,
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "git": _git(),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git() -> dict[str, Any]:
    """Commit of the checkout, and whether tracked files differ from it; nulls outside a repository, and for an
    installed package, which may lie in somebody else's repository."""
    head = _git_output("rev-parse", "HEAD") if IN_CHECKOUT else None
    changed = (
        head and subprocess.run(["git", "diff", "--quiet", "HEAD"], cwd=PROJECT, capture_output=True).returncode != 0
    )
    return {"commit": head, "changed": changed if head else None}


def _git_output(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
