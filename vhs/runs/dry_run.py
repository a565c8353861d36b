"""What a run would do, as text: the resolved configuration, its stages, what is loaded from where, how much of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from vhs import resolve as parts
from vhs.checkpoints.hub import cached_folder, is_hub_id, local_folder
from vhs.config.run import RunConfig
from vhs.runs import runner
from vhs.verifiers.registry import load_registry

EVERY, ONE = "every candidate", "the winner"
TO_FETCH = " (Hub, to be downloaded)"


def describe(config: RunConfig) -> str:
    """The text of `--dry-run`; no tensor is read, nothing fetched. Raises what the run would before it loads a model.

    Checkpoints that have yet to be downloaded are no error here: the text says so.
    """
    config = parts.on_device(config)
    job = runner.plan(config)
    settled = parts.settle(config)
    places = sources(settled)
    absent = [key for key, place in places.items() if place.endswith(TO_FETCH)]
    if absent:
        reads = _reads(settled)
        note = f"\nnot checked, since not all of it is here; to fetch it: {parts.DOWNLOAD}"
    else:
        verifier = parts.check(settled)[1]
        reads, note = verifier.reads if verifier else "nothing", ""
    judged = sum(prompt.judged for prompt in job.prompts) if job.silent is None else 0
    sections = {
        "configuration": yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, width=1000).rstrip(),
        "stages, for each prompt": "\n".join(stages(config, reads, judged > 0)),
        "loaded from": "\n".join(f"{key}: {place}" for key, place in places.items()) + note,
        "counts": f"prompts: {len(job.prompts)}\ncandidates: {len(job.prompts) * config.num_samples} "
        f"({config.num_samples} a prompt)\njudged prompts: {judged}"
        + (f"\nGenEval does not run: {job.silent}" if job.silent else ""),
        "written to": str(job.folder.root),
    }
    return "\n\n".join(f"# {title}\n{text}" for title, text in sections.items())


def stages(config: RunConfig, reads: str, judged: bool) -> list[str]:
    """The stages of one prompt, in order, and for whom each runs."""
    if config.imgs_path or config.re_eval:
        return [
            f"read the pictures in {config.imgs_path or 'the run folder'}",
            *([f"score: {EVERY}"] if reads == "image" else []),
            *([f"judge: {EVERY}"] if judged else []),
        ]
    late = EVERY if config.generation_mode == "dev" else ONE
    early = {
        "hidden": [
            f"prefix, to the verifier's block: {EVERY}",
            f"score: {EVERY}",
            f"finish, from that block on: {late}",
            f"decode: {late}",
        ],
        "latent": [f"generate: {EVERY}", f"score: {EVERY}", f"decode: {late}"],
        "image": [f"generate: {EVERY}", f"decode: {EVERY}", f"score: {EVERY}"],
        "nothing": [f"generate: {late}", f"decode: {late}"],
    }[reads]
    return ["encode the text: once", *early, f"save: {late}", *([f"judge by GenEval: {late}"] if judged else [])]


def sources(config: RunConfig) -> dict[str, str]:
    """Where each part of a settled configuration comes from, by key."""
    choice = parts.verifier_choice(config)
    places: dict[str, Any] = {} if config.imgs_path or config.re_eval else {"ckpt": config.ckpt}
    if choice.kind == "llava":
        places |= {"latent_verifier_path": choice.path}
        if "/" in (choice.vision_tower or ""):
            places["vision_tower"] = choice.vision_tower
    keys = (
        "normalization_mean_path",
        "normalization_variance_path",
        "tokenizer_path",
        "lora_weights",
        "sana_lora_weights",
    )
    places |= {key: value for key in keys if (value := getattr(config, key))}
    if config.judges:
        places |= {
            "segmentation_ckpt_path": config.segmentation_ckpt_path,
            "color_classifier": config.color_classifier,
            "object_names": config.object_names,
        }
    return {key: f"{value}{_whereabouts(key, str(value))}" for key, value in places.items()}


def verifiers() -> str:
    """The text of `--list-verifiers`: a line per entry of the registry."""
    lines = []
    for name, entry in load_registry().items():
        lines.append(
            f"{name}\n    {entry.get('latent_verifier_path') or entry.get('kind')}"
            + (f", reads {entry['vision_tower']}" if entry.get("vision_tower") else "")
        )
    return "\n".join(lines)


def _whereabouts(key: str, value: str) -> str:
    """` (missing)`, ` (Hub cache)` or ` (Hub, to be downloaded)` for what is no file or folder here."""
    path = Path(value.removeprefix(parts.LOCAL_DIR))
    if path.exists() or local_folder(value):
        return ""
    if key == "color_classifier" and not value.startswith(parts.LOCAL_DIR):
        return " (open_clip, OpenAI's weights)"
    if not is_hub_id(value) or key in ("normalization_mean_path", "normalization_variance_path", "object_names"):
        return " (missing)"
    return " (Hub cache)" if cached_folder(value, ["*.json"]) else TO_FETCH


def _reads(config: RunConfig) -> str:
    """What a verifier reads as far as its `vision_tower` tells, for a checkpoint that is not here yet."""
    from vhs.verifiers.checkpoint import parse_tower

    choice = parts.verifier_choice(config)
    if choice.kind != "llava":
        return "nothing"
    return parse_tower(choice.vision_tower)[0] if choice.vision_tower else "hidden"
