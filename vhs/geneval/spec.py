"""GenEval's judge before it is loaded: which detector, classes and colour classifier, and where their files are."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vhs.checkpoints.boundary import loading
from vhs.checkpoints.open_clip_files import check_open_clip
from vhs.checkpoints.source import Source, find_file
from vhs.config.keys import DeviceKey, TimeoutKey, key
from vhs.config.run import JudgeKeys, load_config
from vhs.config.yamlfile import build, parse_override
from vhs.errors import ConfigError
from vhs.files import read_form
from vhs.geneval.metadata import check_metadata, read_names
from vhs.geneval.mmdet_names import PUBLISHED
from vhs.geneval.rules import Thresholds
from vhs.geneval.selfcheck import check_files
from vhs.paths import find
from vhs.records import is_geneval

if TYPE_CHECKING:
    from vhs.geneval.evaluate import GenEval

LOCAL_DIR = "local-dir:"
OPENAI = {"ViT-L-14": "timm/vit_large_patch14_clip_224.openai"}
"""Where open_clip has OpenAI's weights of GenEval's classifier from; others are looked up in open_clip."""


class JudgeConfig(TimeoutKey, DeviceKey, JudgeKeys):
    """The judge's keys outside a run; the default is GenEval's own detector."""

    segmentation_ckpt_path: str = key(f"ckpts/{PUBLISHED['c9d0c4f2']}", path="file")
    """The detector: mmdet's `.pth` or a transformers folder."""


@dataclass(frozen=True)
class GenEvalSpec:
    """GenEval with one detector. `names` are its classes in label order, `colors` an open_clip architecture (with
    OpenAI's weights) or the folder of one."""

    detector: str
    checkpoint: Source
    mmdet_config: Source | None
    names_file: Source
    names: tuple[str, ...]
    size: tuple[int, int]
    colors: str | Source
    device: str
    name: str = "geneval"

    @property
    def sources(self) -> tuple[Source, ...]:
        """The files that it reads."""
        optional = (self.mmdet_config, self.colors)
        return (self.checkpoint, self.names_file, *(one for one in optional if isinstance(one, Source)))

    @property
    def color_model(self) -> str:
        """The classifier as open_clip calls it."""
        return f"{LOCAL_DIR}{self.colors.require()}" if isinstance(self.colors, Source) else self.colors

    def fetched(self, self_check: bool = True) -> GenEvalSpec:
        """The same with every file here; with `self_check` the detector is the one that belongs to its class names, as
        far as files tell. Raises ConfigError or CheckpointError."""
        from vhs.geneval.detector import converted_from

        checkpoint = self.checkpoint.fetched()
        if self_check:
            check_files(self.names, checkpoint.path, converted_from(checkpoint.path))
        if isinstance(self.colors, Source):
            check_open_clip(self.colors.require(), "color_classifier")
        return replace(self, checkpoint=checkpoint)

    def judges(self, record: Mapping[str, Any]) -> bool:
        """The prompt has a GenEval record."""
        return is_geneval(record)

    def check(self, record: Mapping[str, Any], where: str) -> None:
        """Raises PromptError for a record with what the detector does not know."""
        check_metadata(record, self.names, where)

    def measures(self, record: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, list[tuple[str, float]]]:
        """Of one picture: 1 where it is correct, by tag."""
        return {"correct": [(record["tag"], float(fields["correct"]))]}

    @property
    def downloads(self) -> tuple[Source, ...]:
        """The sources, and what open_clip would fetch by itself."""
        return (*self.sources, *self.open_clip_weights())

    def open_clip_weights(self) -> tuple[Source, ...]:
        """The repository of OpenAI's weights, which open_clip fetches when it loads them."""
        if isinstance(self.colors, Source):
            return ()
        repository = OPENAI.get(self.colors) or _openai_repository(self.colors)
        return (Source("color_classifier", self.colors, None, repository, ("open_clip_model.safetensors",)),)

    def describe(self) -> dict[str, Any]:
        """Everything about the judge that a verdict depends on, with hashes for paths."""
        return {
            "detector": self.detector,
            "segmentation_ckpt_path": self.checkpoint.hash()["sha256"],
            "object_names": hashlib.sha256("\n".join(self.names).encode()).hexdigest(),
            "detector_size": list(self.size),
            "color_classifier": self.colors.hash()["sha256"] if isinstance(self.colors, Source) else self.colors,
            "thresholds": asdict(Thresholds()),
        }

    def load(self, self_check: bool = True) -> GenEval:
        """The judge on its device; with `self_check` known answers are asked first. Raises CheckpointError."""
        from vhs.geneval.colors import load_colors
        from vhs.geneval.evaluate import GenEval, load_detector
        from vhs.geneval.selfcheck import check_answers

        with loading("judge", self.checkpoint.name):
            judge = GenEval(load_detector(self), load_colors(self.color_model, self.device))
            if self_check:
                check_answers(judge)
        return judge


def _openai_repository(architecture: str) -> str:
    """As open_clip has it. Raises CheckpointError for an architecture that OpenAI published no weights of."""
    import open_clip

    from vhs.geneval.colors import openai_options

    openai_options(architecture)
    return open_clip.get_pretrained_cfg(architecture, "openai")["hf_hub"].strip("/")


def resolve_judge(keys: JudgeKeys, device: str) -> GenEvalSpec:
    """The judge that a configuration names. Raises ConfigError or CheckpointError."""
    assert keys.segmentation_ckpt_path is not None, "a configuration without a detector has no judge"
    if keys.detector == "mmdet" and importlib.util.find_spec("mmdet") is None:
        raise ConfigError("detector: mmdet is not installed here; `make test-mmdet` makes .venv-mmdet, which has it")
    names_file = find_file("object_names", keys.object_names)
    mmdet_config = None
    if keys.segmentation_config_path is not None and keys.detector == "mmdet":
        mmdet_config = find_file("segmentation_config_path", keys.segmentation_config_path)
        mmdet_config.require()
    folder = keys.color_classifier.removeprefix(LOCAL_DIR)
    colors: str | Source = folder
    if folder != keys.color_classifier:
        colors = find_file("color_classifier", folder)
    return GenEvalSpec(
        keys.detector,
        find_file("segmentation_ckpt_path", keys.segmentation_ckpt_path),
        mmdet_config,
        names_file,
        read_names(names_file.require()),
        keys.detector_size,
        colors,
        device,
    )


def judge_config(images: Path, config: str | None = None, overrides: Iterable[str] = ()) -> JudgeConfig:
    """The judge for a folder of pictures: `overrides` (key=value) over `config` (YAML), else over the run's own
    run.json, else over the defaults. Raises ConfigError."""
    if config:
        values, source = load_config(find(config)).model_dump(), config
    elif (images / "run.json").is_file():
        record = read_form(images / "run.json", dict[str, Any], ConfigError, "give --config")
        values, source = record.get("config"), str(images / "run.json")
        if not isinstance(values, dict):
            raise ConfigError(f"{source}: has no config; give --config")
    else:
        values, source = {}, "defaults"
    values = {key: value for key, value in values.items() if key in JudgeConfig.model_fields}
    if values.get("segmentation_ckpt_path", "") is None:
        del values["segmentation_ckpt_path"]
    given = dict(parse_override(pair) for pair in overrides)
    return build(JudgeConfig, values | given, dict.fromkeys(given, "command line"), source)
