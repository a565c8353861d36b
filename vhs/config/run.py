"""The configuration of a run: flat keys, the published release's among them. docs/configuration.md lists every one.

Relative paths are looked up in the working directory first, then in the project's folder.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from vhs.config.yamlfile import build, combination_error, load
from vhs.paths import find


def _number(value: Any) -> Any:
    """YAML reads `1e-3` as text: take it for the number that it is."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


Number = Annotated[float, BeforeValidator(_number)]
Size = Annotated[tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]], Field(strict=False)]

UNRELATED_TO_RESULTS = frozenset(
    {"name", "output_path", "cont", "re_eval", "micro_batch", "offload", "intermediate_benchmarking"}
)
"""Keys that may differ between a run and its continuation: where and how fast, not what comes out."""


class RunConfig(BaseModel):
    """One run of best-of-N. Unknown keys, wrong types and impossible combinations are refused."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )

    # what is made
    name: str = Field(
        "run",
        pattern=r"^[^/\\\s.][^/\\\s]*$",
        json_schema_extra={"needed": "a folder name without blanks, slashes or a leading dot"},
    )
    """Name of the run and of its folder under `output_path`; no blanks, no slashes."""
    generator: Literal["Sana-Sprint"] = "Sana-Sprint"
    """Family of the generator."""
    ckpt: str = Field(min_length=1)
    """Generator weights: Hub id or folder in diffusers' layout."""
    num_samples: int = Field(8, ge=1)
    """Candidates a prompt (the N of best-of-N)."""
    seed: int = Field(42, ge=0, lt=2**63)
    """Seed of the run; the noise follows from it."""
    noise: Literal["candidate", "published"] = "candidate"
    """`candidate`: noise per (seed, prompt id, candidate). `published`: the release's, by order and shard too."""
    dataset: Literal["geneval", "custom"] = "geneval"
    """`geneval`: records with GenEval metadata are judged. `custom`: nothing is judged."""
    annotation: str = Field("data/evaluation_metadata.json", min_length=1)
    """Prompt file: GenEval JSON or JSONL, CSV with a column `prompt` or `text`, plain text."""
    image_width: int = Field(1024, ge=8)
    """Width of the pictures."""
    image_height: int = Field(1024, ge=8)
    """Height of the pictures."""
    num_inference_steps: int = Field(1, ge=1, le=8)
    """Denoising steps."""
    intermediate_timesteps: Number | None = Field(1.3, gt=0, lt=math.pi / 2)
    """Time of the second of two steps; ignored unless there are two."""
    guidance_scale: Number | None = Field(None, ge=0)
    """Embedded guidance; absent: the pipeline's default, as in the release."""
    use_resolution_binning: bool = False
    """Generate at the nearest trained aspect ratio, then resize and crop."""
    complex_human_instruction: bool = True
    """Put the pipeline's long instruction before the prompt."""
    max_sequence_length: int = Field(300, ge=1)
    """Text tokens kept for the transformer."""
    text_softcapping: bool = False
    """Attention soft-capping in the Gemma-2 text encoder; false is what the release ran."""
    sana_lora_weights: str | None = None
    """LoRA adapter of the generator: Hub id, folder or file."""

    # what chooses
    latent_verifier: bool = True
    """Score the candidates; false: candidate 0 is taken."""
    latent_verifier_name: str | None = None
    """Entry of `inference_scripts/latent_verifier_dict.py`; names the run's annotation files."""
    latent_verifier_path: str | None = None
    """Verifier checkpoint without a registry entry: Hub id or folder."""
    vision_tower: str | None = None
    """What the verifier reads: `hidden_<block>`, `latent`, a CLIP model id or folder; absent: the registry's."""
    mm_projector_type: str | None = None
    """Connector type; the checkpoint's own configuration wins."""
    normalization_mean_path: str | None = None
    """Mean of the hidden state: .pt or .safetensors."""
    normalization_variance_path: str | None = None
    """Variance of the hidden state: .pt or .safetensors."""
    use_generation_prompt: bool = True
    """Close the verifier's chat with an empty assistant turn."""
    resize_vocabulary: bool | None = None
    """The release's vocabulary rule ([UNK] added, embedding padded to 64); absent: the registry's, else false."""
    tokenizer_path: str | None = None
    """Tokenizer of the verifier: Hub id or folder; absent: the checkpoint's own."""
    lora_weights: str | None = None
    """LoRA adapter of the verifier's language model: Hub id or folder."""
    hidden_step: int | None = Field(None, ge=1)
    """Denoising step whose hidden state is read, from 1; absent: the last."""
    selection: Literal["argmax", "random_yes"] = "argmax"
    """`argmax`: highest score. `random_yes`: any candidate whose answer is yes, drawn by the seed."""
    tie: Literal["first", "last"] = "first"
    """Which of equal scores wins."""

    # how it runs
    generation_mode: Literal["prod", "dev"] = "prod"
    """`prod`: only the winner is finished and decoded. `dev`: every candidate is, and saved and judged."""
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        json_schema_extra={"needed": "auto, cpu, mps, cuda or cuda:<number>"},
    )
    """`auto` takes CUDA where there is one, else the CPU."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision; `auto` is float32 on the CPU and bfloat16 elsewhere."""
    micro_batch: int = Field(8, ge=1)
    """Candidates in one forward pass; bounds memory, changes results by rounding only."""
    offload: Literal["none", "model"] = "none"
    """`model`: text encoder and autoencoder wait in main memory while they are not needed."""
    cont: bool = False
    """Continue the run in the folder; false starts over."""
    re_eval: bool = False
    """Judge the pictures of a finished run again (and score them, where the verifier reads pictures)."""
    imgs_path: str | None = None
    """Folder of pictures to score and judge instead of generating: `<prompt id>/samples/img_00000.*`."""
    intermediate_benchmarking: bool = False
    """Wait for the device after every stage, so that `timings.json` splits a prompt's time exactly."""

    # what is written
    output_path: str = Field("./outputs", min_length=1)
    """Folder of all runs."""
    fmt: Literal["jpg", "png", "webp"] = "png"
    """Format of the saved pictures."""

    # who judges
    segmentation_ckpt_path: str | None = None
    """Detector weights: a transformers folder or an mmdet .pth; absent: GenEval does not run."""
    segmentation_config_path: str | None = None
    """mmdet configuration file; read by the mmdet detector only."""
    detector: Literal["transformers", "mmdet"] = "transformers"
    """Library that runs the detector."""
    object_names: str = Field("data/object_names.txt", min_length=1)
    """The detector's class names, one a line, in label order."""
    detector_size: Size = (1333, 800)
    """Longest and shortest side that a picture is resized to for the detector: [long, short]."""
    color_classifier: str = Field("ViT-L-14", min_length=1)
    """open_clip model name (OpenAI weights) or `local-dir:<folder>`."""

    @model_validator(mode="after")
    def _combinations(self) -> RunConfig:
        for key, message in _conflicts(self):
            raise combination_error(key, message)
        return self

    @property
    def verifier_label(self) -> str:
        """What names the verifier in file names: its registry name, else the last part of its path, else `none`."""
        if not self.latent_verifier:
            return "none"
        return (self.latent_verifier_name or Path(self.latent_verifier_path or "none").name).replace("/", "_")

    @property
    def judges(self) -> bool:
        """GenEval can run: there is a detector, and the prompts are not declared to be free ones."""
        return self.dataset == "geneval" and self.segmentation_ckpt_path is not None

    def changed(self, **values: Any) -> RunConfig:
        """A copy with other values, checked like the original."""
        return build(RunConfig, {**self.model_dump(), **values}, source="override")


def load_config(path: str | Path, overrides: Iterable[str] | Mapping[str, Any] = ()) -> RunConfig:
    """The run configuration in a YAML file; `overrides` are `key=value` texts or a mapping. Raises ConfigError."""
    pairs = () if isinstance(overrides, Mapping) else overrides
    config = load(RunConfig, find(path), pairs)
    return config.changed(**overrides) if isinstance(overrides, Mapping) and overrides else config


def _conflicts(config: RunConfig) -> Iterable[tuple[str, str]]:
    """(key, what is wrong and what would be right) for combinations of keys that cannot run."""
    mean, variance = config.normalization_mean_path, config.normalization_variance_path
    if (mean is None) != (variance is None):
        given, other = ("normalization_mean_path", "normalization_variance_path")[:: 1 if mean else -1]
        yield given, f"given without {other}; a hidden state is normalised by both or by neither"
    if config.latent_verifier and not (config.latent_verifier_name or config.latent_verifier_path):
        yield (
            "latent_verifier",
            (
                "true, but no verifier is named; give latent_verifier_name (see --list-verifiers) "
                "or latent_verifier_path, or set latent_verifier: false"
            ),
        )
    if not config.latent_verifier and config.generation_mode == "prod" and config.num_samples > 1:
        yield (
            "latent_verifier",
            (
                f"false leaves nothing to choose by among {config.num_samples} candidates in prod; "
                "set num_samples: 1 or generation_mode: dev"
            ),
        )
    if config.hidden_step is not None and config.hidden_step > config.num_inference_steps:
        yield "hidden_step", f"{config.hidden_step} is past the last of {config.num_inference_steps} denoising steps"
    if config.hidden_step not in (None, config.num_inference_steps) and config.generation_mode == "prod":
        yield (
            "hidden_step",
            (
                "prod ends early in the last step only, since earlier steps feed it; "
                f"set hidden_step: {config.num_inference_steps} or generation_mode: dev"
            ),
        )
    if config.detector == "mmdet" and config.judges and config.segmentation_config_path is None:
        yield "detector", "mmdet needs its configuration file; give segmentation_config_path or detector: transformers"
    if config.offload == "model" and config.device == "cpu":
        yield "offload", "model has nothing to move away from on device: cpu; set offload: none"
    if config.selection != "argmax" and (config.re_eval or config.imgs_path):
        yield "selection", f"{config.selection} needs candidates that are made in the same run; set selection: argmax"
    if config.lora_weights and not config.latent_verifier:
        yield (
            "lora_weights",
            "adapts a verifier, but latent_verifier is false; the generator's adapter is sana_lora_weights",
        )
