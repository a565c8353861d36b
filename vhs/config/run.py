"""The configuration of a run: flat keys, the published release's among them.

Each key says here what the rest of the project needs to know of it: what it means, its unit, whether it is a path, to
which part of a run it belongs (the class it stands in), and whether results depend on it. `docs/configuration.md` is
made from this file and keys.py (`python -m vhs.config.page`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from vhs.config import selection
from vhs.config.conflicts import conflicts
from vhs.config.keys import DeviceKey, Keys, Number, Size, StatisticsKeys, TimeoutKey, Timesteps, key
from vhs.config.selection import OneRerank, SelectionKey
from vhs.config.yamlfile import build, combination_error, load
from vhs.paths import find
from vhs.select import Rule


class GeneratorKeys(Keys):
    """The generator."""

    generator: Literal["Sana-Sprint", "diffusers"] = key("Sana-Sprint")
    """`Sana-Sprint`: SANA-Sprint by code of its own; `diffusers`: any text-to-image pipeline of diffusers by the
    pipeline's own code (docs/generators.md)."""
    ckpt: str = key(path="hub", min_length=1)
    """Generator weights in diffusers' layout."""
    network_ckpt: str | None = key(None, path="hub")
    """`generator: diffusers`: another pipeline of the same class, whose network and scheduler are used instead."""
    block: str | None = key(None)
    """`generator: diffusers`: the block that is read, as a path of modules (`transformer_blocks.7`); absent: what the
    verifier's `hidden_<n>` means, block n of the family's own list."""
    image_width: int = key(1024, ge=8, le=16384, unit="pixels")
    """Width of the pictures: a multiple of 32, or of what the pipeline asks for."""
    image_height: int = key(1024, ge=8, le=16384, unit="pixels")
    """Height of the pictures: a multiple of 32, or of what the pipeline asks for."""
    num_inference_steps: int = key(1, ge=1, le=1000, unit="denoising steps")
    """Denoising steps; at most 8 with `Sana-Sprint`."""
    timesteps: Timesteps | None = key(None)
    """`generator: diffusers`: the scheduler's timesteps, one per step, instead of its own; `[400]` for
    PixArt-alpha-DMD."""
    scheduler: str | dict[str, Any] | None = key(None)
    """`generator: diffusers`: another scheduler of diffusers by its class, or values of its configuration (`class`
    among them, `{class: DDPMScheduler, clip_sample: false}`); absent: the folder's own."""
    pipeline_arguments: dict[str, Any] = key({})
    """`generator: diffusers`: further arguments of the pipeline's `__call__`, such as `negative_prompt`."""
    intermediate_timesteps: Number | None = key(1.3, gt=0, lt=math.pi / 2, unit="radians (TrigFlow time)")
    """Where the second of two steps begins, between 0 and pi/2; ignored unless there are two."""
    guidance_scale: Number | None = key(None, ge=0)
    """Guidance, by a second pass or as an input of the network, as the pipeline does it; absent: the pipeline's default
    (SANA-Sprint's is 4.5, which the release used)."""
    use_resolution_binning: bool = key(False)
    """`Sana-Sprint`: generate at the nearest size that the 1024 px generator was trained on, then resize and crop."""
    complex_human_instruction: bool = key(True)
    """SANA: `true`: the pipeline's long instruction goes before the prompt; `false`: the prompt alone."""
    max_sequence_length: int | None = key(None, ge=1, le=8192, unit="text tokens")
    """Text tokens that the transformer sees; absent: the pipeline's default (SANA's is 300)."""
    text_softcapping: bool = key(False)
    """`false`: Gemma-2 without attention soft-capping, as the release ran it; `true`: as its configuration says."""
    compile: bool = key(False, results=False)
    """`Sana-Sprint`: `true`: text encoder, blocks, language model and decoder are compiled by `torch.compile` and, on a
    GPU, replayed as CUDA graphs, which takes minutes at the first prompt and changes results by rounding."""
    sana_lora_weights: str | None = key(None, path="hub")
    """LoRA adapter of the generator: a folder, a file, or a Hub id."""
    hidden_step: int | None = key(None, ge=1, unit="denoising step, from 1")
    """Step whose hidden state is read; absent: the last. With an earlier one, candidates are scored there and only the
    winner goes on, from its own state."""


class VerifierKeys(StatisticsKeys):
    """The verifier."""

    latent_verifier: bool = key(True)
    """`false`: no scores, candidate 0 is taken (`num_samples: 1`, or `generation_mode: dev` to judge them all)."""
    latent_verifier_name: str | None = key(None)
    """Entry of the registry (`--list-verifiers`), or with `latent_verifier_path` any name. It appears in the names of
    the annotation files."""
    latent_verifier_path: str | None = key(None, path="hub")
    """Verifier checkpoint, instead of the registry's."""
    registry: str | None = key(None, path="file")
    """Python file with a dict `LATENT_VERIFIER` of your own verifiers, beside the shipped ones. The environment
    variable `VHS_REGISTRY` does the same for every run."""
    vision_tower: str | None = key(None)
    """What the verifier reads: `hidden_<block>` (`hidden_5+7`: two), `latent`, or a CLIP model id or folder; absent:
    the registry's; with `latent_verifier_path` what that checkpoint says."""
    cross_generator: bool = key(False, results=False)
    """`true`: the verifier reads another generator than the one it was trained on, with as many tokens of the same
    width; `false` refuses that."""
    mm_projector_type: str | None = key(None)
    """Connector type, kept for the release's files: the checkpoint's own configuration decides."""
    calibrated: bool = key(False)
    """p(yes) by the temperature that training has fitted and stored in the verifier's config.json; false: the softmax
    over the vocabulary, as the release has it."""
    use_generation_prompt: bool | None = key(None)
    """`true`: an empty assistant turn ends the verifier's chat; the published verifiers want `false`. Absent: as a
    verifier of `train.py` was trained, `true` for others."""
    resize_vocabulary: bool | None = key(None)
    """`true`: the release's rule for its published checkpoints (`[UNK]` added, embedding cut to a multiple of 64);
    absent: the registry's, but `false` for a verifier of `train.py`."""
    tokenizer_path: str | None = key(None, path="hub")
    """Tokenizer of the verifier, instead of the checkpoint's own."""
    lora_weights: str | None = key(None, path="hub")
    """LoRA adapter of the verifier's language model."""
    ensemble: list[str] | None = key(None, min_length=2)
    """Several entries of the registry that read the same, instead of one: the score is the mean of theirs."""
    ensemble_mean: Literal["ranks", "scores"] = key("ranks")
    """`ranks`: the mean of each candidate's rank among all of them, which needs no common scale; `scores`: the mean of
    the scores themselves."""


class Rerank(Keys):
    """The second stage of a cascade."""

    verifier: str = key(min_length=1)
    """Entry of the registry; it reads pictures."""
    keep: int = key(ge=1, unit="candidates")
    """How many the first verifier keeps."""


class JudgeKeys(Keys):
    """The judge."""

    segmentation_ckpt_path: str | None = key(None, path="file")
    """The detector: mmdet's `.pth` or a transformers folder; absent: GenEval does not run, and the run says so."""
    segmentation_config_path: str | None = key(None, path="file")
    """mmdet configuration file; read by `detector: mmdet` only."""
    detector: Literal["transformers", "mmdet"] = key("transformers")
    """Library that runs the detector."""
    object_names: str = key("data/object_names.txt", path="file", min_length=1)
    """The detector's class names, one a line, in label order."""
    detector_size: Size = key((1333, 800), unit="pixels")
    """[longest, shortest] side that a picture is resized to for the detector."""
    color_classifier: str = key("ViT-L-14", min_length=1)
    """open_clip architecture (with OpenAI's weights), or `local-dir:<folder>`."""


def _micro_batch(value: Any) -> Any:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise PydanticCustomError("micro_batch", "a number from 1 on, or auto, is right")


MicroBatchKey = Annotated[int | Literal["auto"], BeforeValidator(_micro_batch)]
WITHOUT_GPU = 8
"""`micro_batch: auto` on a CPU, and until the models are loaded."""


class DeviceKeys(DeviceKey):
    """Device and memory."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = key("auto")
    """Precision; `auto` is `float32` on the CPU and `bfloat16` elsewhere."""
    micro_batch: MicroBatchKey = key(8, unit="candidates", results=False)
    """Candidates in one forward pass. Bounds memory, changes results by rounding only; halved, with a warning, when
    memory runs out. `auto`: what half of the GPU's free memory takes once the models are there, at most 64; 8 without
    a GPU, where more gain nothing."""
    offload: Literal["none", "model"] = key("none", results=False)
    """`model`: text encoder and autoencoder wait in main memory while they are not needed."""

    @property
    def at_once(self) -> int:
        """`micro_batch` as a number."""
        return WITHOUT_GPU if self.micro_batch == "auto" else self.micro_batch


class RunConfig(TimeoutKey, DeviceKeys, JudgeKeys, VerifierKeys, GeneratorKeys):
    """The run."""

    name: str = key(
        "run",
        pattern=r"^[^/\\\s.][^/\\\s]*$",
        needed="a folder name without blanks, slashes or a leading dot",
        results=False,
    )
    """Name of the run and of its folder under `output_path`."""
    output_path: str = key("./outputs", path="folder", min_length=1, results=False)
    """Folder of all runs."""
    annotation: str = key("data/evaluation_metadata.json", path="file", min_length=1)
    """Prompts: GenEval or GenEval 2 JSON (a list) or JSONL, CSV or TSV with a column `prompt`, `text` or `Prompts`
    (DrawBench), or plain text with one prompt a line (T2I-CompBench)."""
    dataset: Literal["geneval", "custom"] = key("geneval")
    """`geneval`: prompts with GenEval's metadata are judged; `custom`: nothing is judged, unless `judge` is given."""
    judge: str | list[str] | None = key(None)
    """Who judges the pictures: names of judges (docs/judges.md), each picture by all of them: `geneval`, `geneval2`,
    `vqa_score`, `geometry` (tiny world), one of your own, or `none`; absent: GenEval, where a detector is named."""
    judge_model: str | None = key(None, path="hub")
    """Vision-language model of `geneval2` and `vqa_score`, instead of the registry's (Qwen3-VL-8B-Instruct)."""
    num_samples: int = key(8, ge=1, le=65536, unit="candidates per prompt")
    """The N of best-of-N."""
    stop_when: Number | None = key(None)
    """A prompt ends with the first candidate whose score reaches this: adaptive N, in `prod`. Absent: all
    `num_samples` are made."""
    min_samples: int = key(1, ge=1, unit="candidates per prompt")
    """With `stop_when`: a prompt has at least so many."""
    max_samples: int | None = key(None, ge=1, le=65536, unit="candidates per prompt")
    """With `stop_when`: a prompt has at most so many; takes the place of `num_samples`."""
    budget_ms: Number | None = key(None, gt=0, unit="milliseconds", results=False)
    """The largest N is taken instead with which a prompt, from its text to the decoded winner, lasts at most this long
    here in `prod`. It is measured when the run begins; run.json has it as `num_samples`."""
    seed: int = key(42, ge=0, lt=2**63)
    """Seed of the run; the noise follows from it."""
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**63)]] | None, Field(min_length=1)] = key(None, results=False)
    """Several seeds instead of `seed`: one run each, as `<name>/<name>_seed_<seed>` under `output_path`, and
    `<name>/summary.json` with means, deviations and intervals over prompts and seeds."""
    noise: Literal["candidate", "published"] = key("candidate")
    """`candidate`: a candidate's noise follows from seed, prompt number and candidate number alone; `published`: the
    release's own stream, which also depends on the order of the prompts and the number of processes."""
    generation_mode: Literal["prod", "dev"] = key("prod")
    """`prod`: only the winner is finished, decoded, saved and judged; `dev`: every candidate is. Both have the same
    winner."""
    selection: SelectionKey = key("argmax")
    """`argmax`: the highest score; `random_yes`: any candidate whose answer is yes, drawn by the seed; `{top_k: 4}`:
    the four highest; `{tournament: 4}`: the best of each of four contiguous groups. Each of several is saved and
    judged."""
    rerank: Annotated[Rerank | None, OneRerank] = key(None)
    """`{verifier: name, keep: 4}`: a cascade. The first verifier keeps the best four of all candidates, only those are
    finished and decoded, and this second one of the registry, which reads pictures, chooses among them."""
    tie: Literal["first", "last"] = key("first")
    """Which of equal scores wins."""
    fmt: Literal["jpg", "png", "webp"] = key("png")
    """Format of the saved pictures."""
    cont: bool = key(False, results=False)
    """`true`: go on with the unfinished run in the folder, which must have been made with the same keys; `false`: an
    unfinished run there is an error."""
    overwrite: bool = key(False, results=False)
    """`true`: replace the run in the folder, whatever it is; the old one is kept until the new one is finished."""
    re_eval: bool = key(False, results=False)
    """`true`: judge the pictures of a finished run again (and score them again where the verifier reads pictures);
    nothing is generated."""
    imgs_path: str | None = key(None, path="folder")
    """Score and judge pictures instead of generating: a run's folder, or `<prompt id>/samples/` with `img_00000.png`,
    ... or `0000.png`, ... as `geneval.py --export` and GenEval have them."""
    launcher: Literal["processes", "ray"] = key("processes", results=False)
    """Who hands out the prompts. `processes`: every process that `torchrun` or `accelerate launch` started takes a
    fixed share, and the only one takes all; `ray`: Ray, on this machine or on a cluster (docs/processes.md)."""
    intermediate_benchmarking: bool = key(False, results=False)
    """`true`: wait for the GPU after every stage and encode pictures in their turn, not beside the next prompt's
    candidates, so that `timings.json` splits a prompt's time exactly."""

    @model_validator(mode="before")
    @classmethod
    def _most(cls, values: Any) -> Any:
        """`max_samples` is the number of candidates that everything else knows."""
        most = values.get("max_samples") if isinstance(values, dict) else None
        return values if most is None else {**values, "num_samples": most}

    @model_validator(mode="after")
    def _combinations(self) -> RunConfig:
        for name, message in conflicts(self):
            raise combination_error(name, message)
        return self

    @property
    def verifier_label(self) -> str:
        """What names the verifier in file names: its registry name, else the last part of its path, else `none`."""
        if not self.latent_verifier:
            return "none"
        if self.ensemble:
            return "+".join(self.ensemble).replace("/", "_")
        return (self.latent_verifier_name or Path(self.latent_verifier_path or "none").name).replace("/", "_")

    @property
    def rule(self) -> Rule:
        """What `selection` says."""
        return selection.rule_of(self.selection)

    @property
    def generates(self) -> bool:
        """Pictures are made, not read from a folder."""
        return not (self.imgs_path or self.re_eval)

    def changed(self, **values: Any) -> RunConfig:
        """A copy with other values, checked like the original."""
        return build(RunConfig, {**self.model_dump(), **values}, source="override")


def load_config(path: str | Path, overrides: Iterable[str] | Mapping[str, Any] = ()) -> RunConfig:
    """The run configuration in a YAML file; `overrides` are `key=value` texts or a mapping. Raises ConfigError."""
    pairs = () if isinstance(overrides, Mapping) else overrides
    config = load(RunConfig, find(path), pairs)
    return config.changed(**overrides) if isinstance(overrides, Mapping) and overrides else config
