"""Verifiers in the published format before and while they are loaded: their files, whether they fit, the models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vhs.checkpoints.boundary import loading
from vhs.checkpoints.hub import download
from vhs.checkpoints.source import Source, find_file, find_model
from vhs.config.run import RunConfig
from vhs.errors import ConfigError, PromptError
from vhs.paths import find
from vhs.records import Prompt
from vhs.verifiers.base import Reader, Reads
from vhs.verifiers.checkpoint import (
    TEMPERATURE,
    VERIFIER_FILES,
    VerifierConfig,
    parse_tower,
    read_shapes,
    read_tensors,
    read_verifier_config,
    warn_of_sampling,
    warn_of_statistics,
)
from vhs.verifiers.feature_names import hidden, statistics_files, statistics_keys
from vhs.verifiers.language_model import load_tokenizer
from vhs.verifiers.registry import Entry
from vhs.verifiers.spec import require_fields

if TYPE_CHECKING:
    import torch

    from vhs.verifiers.hidden import Statistics
    from vhs.verifiers.llava import LlavaVerifier

TOWER_FILES = ("config.json", "preprocessor_config.json", "*.safetensors", "*.safetensors.index.json")
PICKLED_TOWER = "pytorch_model.bin"
"""OpenAI's 336 px repository holds no safetensors on its main branch; this one is read with weights_only."""
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "non_lora_trainables.bin")
ENTRY_FIELDS = ("latent_verifier_path", "vision_tower", "resize_vocabulary")


@dataclass(frozen=True)
class LlavaSpec:
    """A LLaVA-Qwen verifier: its checkpoint, and what goes with it.

    `config` is None as long as its config.json is not here (a dry run without a network); then `vision_tower` alone
    says what it reads. `statistics` are the files of mean and variance of each block in turn, `tower` the CLIP model
    of one that reads pictures.
    """

    source: Source
    vision_tower: str | None = None
    config: VerifierConfig | None = None
    tower: Source | None = None
    statistics: tuple[Source, ...] = ()
    tokenizer: Source | None = None
    adapter: Source | None = None
    use_generation_prompt: bool | None = None
    resize_vocabulary: bool = False
    calibrated: bool = False
    kind: str = "llava"

    @property
    def reads(self) -> Reads:
        if self.config is not None:
            return self.config.reads
        return parse_tower(self.vision_tower)[0] if self.vision_tower else "hidden"

    @property
    def trained_on(self) -> Mapping[str, Any] | None:
        return self.config.trained_on if self.config is not None else None

    @property
    def block(self) -> int | None:
        return self.config.block if self.config is not None else None

    @property
    def blocks(self) -> tuple[int, ...]:
        return self.config.blocks if self.config is not None else ()

    @property
    def width(self) -> int | None:
        return self.config.width if self.config is not None else None

    @property
    def generation_prompt(self) -> bool:
        """Whether an empty assistant turn ends the chat: as the run says, else as it was trained, else yes."""
        trained = self.config.input.get("use_generation_prompt", True) if self.config is not None else True
        return trained if self.use_generation_prompt is None else self.use_generation_prompt

    @property
    def sources(self) -> tuple[Source, ...]:
        optional = (self.tower, *self.statistics, self.tokenizer, self.adapter)
        return (self.source, *(source for source in optional if source is not None))

    def fetched(self, tokens: int | None) -> LlavaSpec:
        """Its files are whole, their tensors are those that config.json asks for, the statistics fit it, and `tokens`
        image tokens where given; no weight is read."""
        from vhs.verifiers.adapter import check_adapter
        from vhs.verifiers.hidden import check_statistics
        from vhs.verifiers.llava import load_parts

        spec = self._downloaded()
        with loading("verifier", spec.source.path):
            load_parts(spec.config, read_shapes(spec.source.path))
        if spec.config.reads == "hidden":
            check_statistics(spec._statistics(), tokens, spec.config.width)
        if spec.adapter is not None:
            check_adapter(spec.adapter.path)
        if spec.tower is not None:
            from vhs.verifiers.clip import check_tower

            check_tower(spec.config, spec.tower.path)
        return spec

    def _downloaded(self) -> LlavaSpec:
        here = {
            name: source.fetched()
            for name in ("source", "tokenizer", "adapter")
            if (source := getattr(self, name)) is not None
        }
        here["tower"] = fetched_tower(self.tower) if self.tower else None
        statistics = tuple(source.fetched() for source in self.statistics)
        config = read_verifier_config(here["source"].path, self.vision_tower)
        spec = replace(self, **here, statistics=statistics, config=config)
        spec.check_keys()
        return spec

    def check_keys(self) -> None:
        """Raises ConfigError where a run's keys are not those that the checkpoint says it was trained with; as long as
        its config.json is not here, nothing is known."""
        if self.config is None:
            return
        folder, trained, own = self.config.folder, self.config.input, self.generation_prompt
        if self.calibrated and self.config.temperature is None:
            raise ConfigError(
                f"calibrated: {folder} states no temperature ({TEMPERATURE}); leave it out, or train it again"
            )
        if trained.get("use_generation_prompt", own) != own:
            raise ConfigError(
                f"use_generation_prompt: {own}, but {folder} was trained with {not own}; give it as in training"
            )
        if trained.get("statistics") and not self.statistics:
            raise ConfigError(
                f"normalization: absent, but {folder} was trained on normalised hidden states; name the folder of "
                "the statistics that its training used"
            )

    def check_prompts(self, prompts: Sequence[Prompt], tokens: int | None) -> None:
        """Raises PromptError, naming file and line, for a prompt with a control token or more tokens than the LLM takes
        beside a picture's; `tokens` are the generator's, before the connector."""
        from vhs.verifiers.connector import picture_tokens
        from vhs.verifiers.conversation import build_inputs, check_length

        folder = (self.tokenizer or self.source).require()
        tokenizer = load_tokenizer(folder)
        limit = min(tokenizer.model_max_length, self.config.raw.get("max_position_embeddings", math.inf))
        picture = picture_tokens(self.config.projector_type, tokens) if self.config.reads == "hidden" and tokens else 0
        for prompt in prompts:
            try:
                with loading("tokenizer", folder):
                    ids = build_inputs(tokenizer, prompt.text, self.generation_prompt)
                check_length(ids, picture, limit, prompt.text)
            except PromptError as error:
                raise PromptError(f"{prompt.where or f'prompt {prompt.id}'}: {error}") from None

    def load(self, device: str, dtype: str, micro_batch: int | None = None) -> LlavaVerifier:
        """LLM, connector and reader on their device. The vocabulary is resized before the cast to `dtype`."""
        with loading("verifier", self.source.name):
            return self._load(device, dtype, micro_batch)

    def _load(self, device: str, dtype: str, micro_batch: int | None) -> LlavaVerifier:
        import torch

        from vhs.verifiers import llava
        from vhs.verifiers.adapter import apply_lora

        spec, precision = self._downloaded(), getattr(torch, dtype)
        folder = spec.source.path
        warn_of_sampling(folder)
        tensors = read_tensors(folder)
        llm, connector = llava.load_parts(spec.config, tensors)
        tokenizer = load_tokenizer(spec.tokenizer.path if spec.tokenizer else folder)
        if spec.resize_vocabulary:
            llava.resize_vocabulary(llm, tokenizer)
        reader = spec._reader(tensors, precision, torch.device(device))
        llm = llm.to(device=device, dtype=precision)
        llava.restore_rotary(llm)
        if spec.adapter is not None:
            llm = apply_lora(llm, connector, spec.adapter.path).eval()
        connector = connector.to(device=device, dtype=precision)
        temperature = spec.config.temperature if spec.calibrated else None
        return llava.LlavaVerifier(llm, connector, tokenizer, reader, spec.generation_prompt, micro_batch, temperature)

    def _statistics(self) -> tuple[Statistics, ...]:
        """Each block's, none where hidden states are read as they are."""
        from vhs.verifiers.hidden import load_all_statistics

        if not (self.statistics and self.config.normalize):
            return ()
        return load_all_statistics([source.require() for source in self.statistics], self.config.blocks)

    def _reader(self, tensors: dict[str, torch.Tensor], dtype: torch.dtype, device: torch.device) -> Reader:
        from vhs.verifiers.connector import reads_grid
        from vhs.verifiers.hidden import HiddenReader, digest
        from vhs.verifiers.latent import LatentReader

        if self.config.reads == "hidden":
            statistics = self._statistics()
            warn_of_statistics(self.config.folder, self.config.input.get("statistics"), digest(statistics))
            return HiddenReader(self.config.width, self.config.blocks, statistics)
        if self.config.reads == "latent":
            return LatentReader(self.config.width, as_grid=reads_grid(self.config.projector_type))
        from vhs.verifiers.clip import load_clip_reader

        return load_clip_reader(self.config, self.tower.path, tensors, dtype, device)


def resolve_llava_entry(entry: Entry, config: RunConfig, offline: bool) -> LlavaSpec:
    """A registry entry of kind llava under a run's own keys."""
    values = require_fields(entry, ENTRY_FIELDS)
    path = config.latent_verifier_path or values.get("latent_verifier_path")
    tower = config.vision_tower or values.get("vision_tower")
    resize = values.get("resize_vocabulary", False) if config.resize_vocabulary is None else config.resize_vocabulary
    if not isinstance(resize, bool):
        raise ConfigError(f"{entry.where}: resize_vocabulary is true or false")
    if not path or (entry.values and not tower):
        raise ConfigError(f"{entry.where}: needs latent_verifier_path and vision_tower")
    if (own := _own_config(config.latent_verifier_path)) is not None:  # the entry is of another checkpoint
        tower = tower if own.reads == "hidden" and not own.blocks else config.vision_tower
        resize = resize and not (own.input and config.resize_vocabulary is None)
    return resolve_llava(
        path,
        tower,
        config.normalization_mean_path,
        config.normalization_variance_path,
        normalization=config.normalization,
        use_generation_prompt=config.use_generation_prompt,
        resize_vocabulary=resize,
        calibrated=config.calibrated,
        lora_weights=config.lora_weights,
        tokenizer_path=config.tokenizer_path,
        offline=offline,
    )


def _own_config(path: str | None) -> VerifierConfig | None:
    """What the checkpoint in a run's own folder says; None where the run names none, or it is not here."""
    folder = find(path) if path is not None else None
    return read_verifier_config(folder) if folder is not None and (folder / "config.json").is_file() else None


def resolve_llava(
    path: str | Path,
    vision_tower: str | None = None,
    normalization_mean_path: str | Path | None = None,
    normalization_variance_path: str | Path | None = None,
    *,
    normalization: str | Path | None = None,
    use_generation_prompt: bool | None = None,
    resize_vocabulary: bool = False,
    calibrated: bool = False,
    lora_weights: str | Path | None = None,
    tokenizer_path: str | Path | None = None,
    offline: bool = False,
) -> LlavaSpec:
    """Finds a verifier's files; keywords are the keys of a run's configuration. Of the Hub only a config.json is
    fetched, with `offline` nothing. `use_generation_prompt` None is that of its training, else True.

    Raises ConfigError or CheckpointError for what is neither here nor on the Hub, or does not go together.
    """
    source = find_model("latent_verifier_path", str(path), VERIFIER_FILES)
    folder = source.path
    if source.repository is not None and not (folder is not None and (folder / "config.json").is_file()):
        folder = None if offline else download(source.repository, source.key, ("config.json",))
    config = read_verifier_config(folder, vision_tower) if folder is not None else None
    statistics = _statistics_files(
        config, vision_tower, normalization, normalization_mean_path, normalization_variance_path
    )
    spec = LlavaSpec(
        source,
        vision_tower,
        config,
        _tower(config, vision_tower),
        statistics,
        find_model("tokenizer_path", str(tokenizer_path), VERIFIER_FILES) if tokenizer_path else None,
        find_model("lora_weights", str(lora_weights), ADAPTER_FILES) if lora_weights else None,
        use_generation_prompt,
        resize_vocabulary,
        calibrated,
    )
    spec.check_keys()
    return spec


def _tower(config: VerifierConfig | None, vision_tower: str | None) -> Source | None:
    """The CLIP model of a verifier that reads pictures: its checkpoint's, or the registry's as long as that is not
    here."""
    if config is not None:
        return find_tower(config.tower, (config.folder, config.folder.parent)) if config.tower else None
    return find_tower(vision_tower) if vision_tower and parse_tower(vision_tower)[0] == "image" else None


def find_tower(name: str, beside: Sequence[Path] = ()) -> Source:
    """A CLIP vision tower's folder or repository."""
    return find_model("vision_tower", name, TOWER_FILES, beside)


def fetched_tower(tower: Source) -> Source:
    """The tower with its weights here: safetensors, or else the pickle that is read as tensors only."""
    fetched = tower.fetched()
    if any(fetched.path.glob("*.safetensors")):
        return fetched
    return replace(tower, patterns=(*TOWER_FILES, PICKLED_TOWER)).fetched()


def _statistics_files(
    config: VerifierConfig | None,
    vision_tower: str | None,
    folder: str | Path | None,
    mean: str | Path | None,
    variance: str | Path | None,
) -> tuple[Source, ...]:
    """The files of mean and variance of each block in turn, as the configuration names them."""
    if (mean is None) != (variance is None):
        present, absent = ("mean", "variance") if mean is not None else ("variance", "mean")
        raise ConfigError(f"normalization_{absent}_path: missing, but normalization_{present}_path is given; give both")
    if mean is None and folder is None:
        return ()
    if config is not None and config.reads == "hidden" and not config.normalize:
        return ()
    if config is not None and config.reads != "hidden":
        if mean is None:  # the folder holds what a generator's blocks are normalised by, whoever reads them
            return ()
        raise ConfigError(f"normalization_mean_path: {config.folder} reads {config.reads} features; leave it out")
    blocks = config.blocks if config is not None else parse_tower(vision_tower)[1] if vision_tower else ()
    if mean is not None:
        if len(blocks) > 1:
            raise ConfigError(
                f"normalization_mean_path: one file, but {hidden(blocks)} reads {len(blocks)} blocks; give the folder "
                "of their files: normalization"
            )
        return (
            find_file("normalization_mean_path", str(mean)),
            find_file("normalization_variance_path", str(variance)),
        )
    if not blocks:
        raise ConfigError("normalization: names files by block; vision_tower: hidden_<block> is needed")
    files = zip(statistics_keys(blocks), statistics_files(folder, blocks), strict=True)
    return tuple(find_file(key, str(file)) for key, file in files)


def load_verifier(
    path: str | Path,
    vision_tower: str | None = None,
    normalization_mean_path: str | Path | None = None,
    normalization_variance_path: str | Path | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    micro_batch: int | None = None,
    **keys: Any,
) -> LlavaVerifier:
    """Loads a verifier in the published format.

    Args:
        path: folder or Hub id.
        vision_tower: `hidden_<block>`, `latent`, or a CLIP model id or folder; None takes what config.json says.
        normalization_mean_path: statistics of the hidden states, one tensor in each file, (1,), (tokens,) or
            (1, width); ignored where config.json has `mm_vision_normalize: false`.
        dtype: float32, bfloat16 or float16.
        micro_batch: candidates per forward pass; None takes all that `score` is given.
        keys: the others of `resolve_llava`.

    Raises:
        ConfigError: statistics without hidden states, or one file of them alone.
        CheckpointError: the checkpoint or the statistics are missing, damaged, or do not fit each other.
    """
    spec = resolve_llava(path, vision_tower, normalization_mean_path, normalization_variance_path, **keys)
    return spec.load(device, dtype, micro_batch)
