"""Configurations of the commands that make training data: collect.py, normalize.py, and the tasks of label.py."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from vhs.config.keys import DeviceKey, Keys, Number, TimeoutKey
from vhs.config.yamlfile import build, combination_error, nearest, read_values
from vhs.errors import ConfigError
from vhs.paths import expanded
from vhs.training.config import Dtype, Feature, Sources


class CollectConfig(TimeoutKey):
    """collect.py: K variants of every prompt, and what is kept of them."""

    run: str = Field(min_length=1)
    """Run configuration (YAML) that names the generator and its settings; its verifier is not loaded."""
    run_overrides: list[str] = []
    """`key=value` texts over that configuration, such as `sana_lora_weights=<adapter>`."""
    annotation: str = Field(min_length=1)
    """Prompt file: GenEval JSON or JSONL, CSV, plain text."""
    output: str = Field(min_length=1)
    """Folder of the collected set."""
    candidates: int = Field(20, ge=1)
    """Variants per prompt (K)."""
    limit: int | None = Field(None, ge=1)
    """Only the first prompts of the file; absent: all."""
    blocks: Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=64)] = [7]
    """Transformer blocks whose output is kept, as features `hidden_<block>`."""
    latent: bool = False
    """Keep the final latent, as feature `latent`."""
    clip: str | None = None
    """CLIP vision tower (Hub id or folder) whose features of the picture are kept, as feature `clip`."""
    clip_layer: int = -2
    """Layer of the tower that is read, as in a verifier's `mm_vision_select_layer`."""
    pictures: Literal["png", "jpg"] | None = None
    """Keep the picture in this format; labels and captions are made from it."""
    dtype: Dtype | Literal["float8", "int8"] = "bfloat16"
    """How features are stored; `float8` and `int8` with a scale per sample and channel, half as large as `bfloat16`."""
    prompts_per_shard: int | None = Field(None, ge=1)
    """Prompts whose samples share a shard (a file); absent: as many as 512 MiB hold, at most 50."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Seed of the noise, with prompt id and candidate."""
    micro_batch: int | None = Field(None, ge=1)
    """Candidates in one forward pass; absent: the run configuration's."""
    reserve_gib: Number = Field(5.0, ge=0)
    """Space that must remain free on the disk, GiB; otherwise nothing is collected."""
    require_records: bool = False
    """The pictures will be judged: every prompt must have GenEval's record, or nothing is collected."""
    overwrite: bool = False
    """Replace the set in the folder, whatever it is; the old one is kept until the new one is finished."""

    @property
    def folder(self) -> Path:
        return expanded(self.output)

    @model_validator(mode="after")
    def _keeps_something(self) -> CollectConfig:
        if "://" in self.output:
            raise combination_error("output", f"{self.output} is no folder here; copy the finished set there")
        if not (self.blocks or self.latent or self.pictures or self.clip):
            raise combination_error(
                "blocks", "[] with latent: false, no clip and no pictures keeps nothing; name a block"
            )
        if self.require_records and not self.pictures:
            raise combination_error("require_records", "verdicts are made from pictures; add pictures: png or jpg")
        if len(set(self.blocks)) != len(self.blocks):
            raise combination_error("blocks", f"{self.blocks} names a block twice")
        return self


class NormalizeConfig(TimeoutKey):
    """normalize.py: mean and variance of one feature."""

    data: Sources = Field(min_length=1)
    """Collected sets; `{generate: <collecting file>}`: features are made beside the measuring and not stored."""
    feature: Feature = "hidden_7"
    """Feature to measure."""
    output: str = Field(min_length=1)
    """Folder of the two files, `block_<l>_mean_bf16.pt` and `block_<l>_variance_bf16.pt`."""
    overwrite: bool = False
    """Make the files again, whatever another configuration has written there."""
    samples: int | None = Field(None, ge=1)
    """Only the first samples of the sets; absent: all."""
    per: Literal["channel", "token", "all"] = "channel"
    """One pair of numbers per channel (1, C), per token (N,), or for all (1,)."""


class VerdictTask(TimeoutKey):
    """label.py: GenEval's verdict on every collected picture."""

    task: Literal["verdicts"]
    data: list[str] = Field(min_length=1)
    """Collected sets with pictures."""
    judge: str = Field(min_length=1)
    """Run configuration (YAML) that names detector, classes and colour classifier."""
    output: str = "labels.jsonl"
    """File inside each set."""
    overwrite: bool = False
    """Make the file again, whatever another configuration has written there."""
    batch: int = Field(64, ge=1)
    """Pictures judged together."""


class CaptionTask(TimeoutKey, DeviceKey):
    """label.py: a caption of every collected picture, for stage 1; or captions of a file in better words."""

    task: Literal["captions"]
    data: list[str] = []
    """Collected sets with pictures."""
    annotation: str | None = None
    """Prompt file whose texts are put into better words, instead of sets; `output` is then a JSONL prompt file."""
    backend: Literal["model", "detector"] = "model"
    """`model`: an image-text model is asked the paper's caption prompt. `detector`: GenEval's detector and colours."""
    model: str = "google/gemma-3-4b-it"
    """Image-text-to-text model of transformers (for texts any model with a chat template): Hub id or folder."""
    question: str | None = None
    """What the model is asked; absent: the paper's caption prompt, or for texts one of this project, with {caption}."""
    judge: str | None = None
    """Run configuration (YAML) of the detector backend."""
    min_score: Number | None = Field(None, ge=0, lt=1)
    """Detections below this score are not mentioned; absent: GenEval's threshold."""
    output: str = "captions.jsonl"
    """File inside each set."""
    overwrite: bool = False
    """Make the file again, whatever another configuration has written there."""
    batch: int = Field(16, ge=1)
    """Pictures captioned together."""
    max_tokens: int = Field(96, ge=1, le=8192)
    """Longest caption, tokens."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the model; `auto` is float32 on the CPU and bfloat16 elsewhere."""

    @model_validator(mode="after")
    def _combinations(self) -> CaptionTask:
        if bool(self.data) == (self.annotation is not None):
            raise combination_error("data", "sets with pictures (data) or a file of texts (annotation); give one")
        if self.annotation is not None and self.backend != "model":
            raise combination_error("backend", "texts are rewritten by a model; leave it out")
        if self.annotation is not None and self.question is not None and "{caption}" not in self.question:
            raise combination_error("question", "{caption} is needed in it, where the text goes")
        if self.backend == "detector" and self.judge is None:
            raise combination_error("judge", "missing; backend: detector needs the run configuration of a detector")
        return self


class ClipScoreTask(DeviceKey):
    """label.py: CLIP-Score of collected pictures with their captions and prompts, and of the original pairs."""

    task: Literal["clip_score"]
    data: list[str] = Field(min_length=1)
    """Collected sets with pictures."""
    captions: str | None = "captions.jsonl"
    """File of captions inside each set; null: prompts only."""
    pairs: str | None = None
    """LLaVA's JSON of the original pairs (`image` and a conversation), which the new ones are compared with."""
    pairs_pictures: str | None = None
    """Folder of the pictures that it names."""
    output: str | None = None
    """JSON file of the means and numbers of pairs; absent: they are only printed."""
    overwrite: bool = False
    """Make the file again, whatever another configuration has written there."""
    model: str = "openai/clip-vit-base-patch32"
    """CLIP model with both towers: Hub id or folder."""
    limit: int | None = Field(None, ge=1)
    """Only the first samples of each set, and the first original pairs; absent: all."""
    batch: int = Field(64, ge=1)
    """Pairs scored together."""

    @model_validator(mode="after")
    def _pairs_with_pictures(self) -> ClipScoreTask:
        if (self.pairs is None) != (self.pairs_pictures is None):
            raise combination_error("pairs", "the file of pairs and the folder of its pictures; give both or neither")
        return self


class MetadataTask(DeviceKey):
    """label.py: GenEval's record (tag, include, exclude) of every prompt of a file."""

    task: Literal["metadata"]
    annotation: str = Field(min_length=1)
    """Prompt file."""
    output: str = Field(min_length=1)
    """JSON file of the records, in GenEval's form."""
    overwrite: bool = False
    """Make the file again, whatever another configuration has written there."""
    object_names: str = "data/object_names.txt"
    """The detector's class names, one per line."""
    backend: Literal["rules", "model"] = "rules"
    """`rules`: GenEval-shaped prompts only. `model`: what the rules cannot read is asked an instruction LLM."""
    model: str = "google/gemma-3-4b-it"
    """Causal LM of transformers with a chat template: Hub id or folder."""
    on_error: Literal["stop", "skip"] = "stop"
    """`stop` at the first prompt without a valid record, writing nothing; `skip` it, into `<output>.rejected.jsonl`."""
    batch: int = Field(16, ge=1)
    """Prompts asked together."""
    max_tokens: int = Field(256, ge=1, le=8192)
    """Longest answer, tokens."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the model."""


class PromptsTask(Keys):
    """label.py: a prompt file from one of the sets that the paper trained on."""

    task: Literal["prompts"]
    source: str = Field(min_length=1)
    """File to read."""
    format: Literal["reflect_dit", "llava"]
    """`reflect_dit`: CSV, JSON or JSONL rows with `prompt`. `llava`: the 558k caption JSON."""
    output: str = Field(min_length=1)
    """JSON prompt file to write."""
    overwrite: bool = False
    """Make the file again, whatever another configuration has written there."""
    limit: int | None = Field(None, ge=1)
    """Only the first distinct prompts; absent: all."""


LabelTask = VerdictTask | CaptionTask | ClipScoreTask | MetadataTask | PromptsTask
TASKS: dict[str, type[Keys]] = {
    "verdicts": VerdictTask,
    "captions": CaptionTask,
    "clip_score": ClipScoreTask,
    "metadata": MetadataTask,
    "prompts": PromptsTask,
}


def load_label_config(path: str | Path, overrides: Iterable[str] = ()) -> LabelTask:
    """The task in a YAML file, by its key `task`. Raises ConfigError in one line."""
    values, origins = read_values(path, overrides)
    task = values.get("task")
    if not isinstance(task, str) or task not in TASKS:
        where = origins.get("task", str(path))
        raise ConfigError(
            f"{where}: task: {task!r} is not a choice; one of {', '.join(TASKS)}{nearest(str(task), TASKS)}"
        )
    return build(TASKS[task], values, origins, str(path))
