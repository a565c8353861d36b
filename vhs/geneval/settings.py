"""Which detector, classes and colour classifier judge: the part of a run's configuration that GenEval reads."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from vhs.config.run import load_config
from vhs.config.yamlfile import build, parse_override
from vhs.errors import ConfigError
from vhs.files import read_json
from vhs.geneval.mmdet_names import PUBLISHED
from vhs.paths import find
from vhs.processes import Process


class JudgeConfig(BaseModel):
    """RunConfig's keys about the judge; the defaults are GenEval's own detector and colours."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    segmentation_ckpt_path: str = f"ckpts/{PUBLISHED['c9d0c4f2']}"
    """Detector weights: a transformers folder or an mmdet .pth."""
    segmentation_config_path: str | None = None
    """mmdet configuration file; read by the mmdet detector only, absent: mmdet's own."""
    detector: Literal["transformers", "mmdet"] = "transformers"
    """Library that runs the detector."""
    object_names: str = Field("data/object_names.txt", min_length=1)
    """The detector's class names, one a line, in label order."""
    detector_size: tuple[int, int] = (1333, 800)
    """Longest and shortest side that a picture is resized to for the detector."""
    color_classifier: str = Field("ViT-L-14", min_length=1)
    """open_clip model name (OpenAI weights) or `local-dir:<folder>`."""
    device: str = "auto"
    """`auto` takes CUDA where there is one, else the CPU."""


def judge_config(images: Path, config: str | None = None, overrides: Iterable[str] = ()) -> JudgeConfig:
    """The judge for a folder of pictures: `overrides` (key=value) over `config` (YAML), else over the run's own
    run.json, else over the defaults. Raises ConfigError."""
    if config:
        values, source = load_config(find(config)).model_dump(), config
    elif (images / "run.json").is_file():
        values, source = read_json(images / "run.json").get("config", {}), str(images / "run.json")
    else:
        values, source = {}, "defaults"
    values = {key: value for key, value in values.items() if key in JudgeConfig.model_fields}
    if values.get("segmentation_ckpt_path", "") is None:
        del values["segmentation_ckpt_path"]
    given = dict(parse_override(pair) for pair in overrides)
    return build(JudgeConfig, values | given, dict.fromkeys(given, "command line"), source)


def settle(config: JudgeConfig, shard: Process = Process()) -> JudgeConfig:
    """With a concrete device and with paths where their files are. Raises ConfigError for a file that is missing."""
    changed: dict[str, Any] = {"device": on_device(config.device, shard)}
    for key in ("segmentation_ckpt_path", "segmentation_config_path", "object_names"):
        if value := getattr(config, key):
            changed[key] = str(find(value))
            if not Path(changed[key]).exists():
                raise ConfigError(f"{key}: {value} is missing; docs/geneval.md says where to get GenEval's files")
    if (folder := config.color_classifier.removeprefix("local-dir:")) != config.color_classifier:
        changed["color_classifier"] = f"local-dir:{find(folder)}"
        if not (find(folder) / "open_clip_config.json").is_file():
            raise ConfigError(f"color_classifier: {folder}/open_clip_config.json is missing")
    if config.detector == "mmdet" and importlib.util.find_spec("mmdet") is None:
        raise ConfigError("detector: mmdet is not installed here; `make test-mmdet` makes .venv-mmdet, which has it")
    return config.model_copy(update=changed)


def on_device(device: str, shard: Process = Process()) -> str:
    """`auto` replaced, and each process on its own GPU."""
    if device == "auto":
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
    return f"cuda:{shard.local}" if device == "cuda" and shard.count > 1 else device
