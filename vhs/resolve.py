"""Settles a configuration once: which models, files, device, precision and prompts it means, before anything is loaded.

Below this module nobody looks at `auto`, the registry, a search path or the Hub again: specs know their files and load
themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vhs.checkpoints.source import Source
from vhs.config.run import RunConfig
from vhs.device import resolve_device, resolve_dtype
from vhs.errors import ConfigError
from vhs.generators.spec import GeneratorSpec, resolve_generator
from vhs.geneval.metadata import check_metadata
from vhs.geneval.spec import GenEvalSpec, resolve_judge
from vhs.paths import find
from vhs.processes import Process
from vhs.prompts import read_prompts
from vhs.records import Prompt
from vhs.seeding import published_order
from vhs.verifiers.spec import VerifierSpec, resolve_verifier

if TYPE_CHECKING:
    from vhs.generators.base import Generator
    from vhs.verifiers.base import Verifier

Fetch = Literal["all", "configs", "nothing"]


@dataclass(frozen=True)
class ResolvedModels:
    """The generator and the verifier of a configuration, on a device. `generator` is None where pictures are read."""

    device: str
    dtype: str
    micro_batch: int
    generator: GeneratorSpec | None
    verifier: VerifierSpec

    @property
    def sources(self) -> tuple[Source, ...]:
        """Every file and folder that they read."""
        return (*(self.generator.sources if self.generator else ()), *self.verifier.sources)

    def load_generator(self) -> Generator:
        """The generator, on the device. Raises CheckpointError."""
        assert self.generator is not None, "pictures are read, nothing generates"
        _hide_loading_bars()
        return self.generator.load()

    def load_verifier(self) -> Verifier | None:
        """The verifier, on the device; None: candidate 0 wins. Raises CheckpointError."""
        _hide_loading_bars()
        return self.verifier.load(self.device, self.dtype, self.micro_batch)


@dataclass(frozen=True)
class ResolvedRun:
    """A run as this process will work on it.

    `config` is the configuration as given; its plain values (seed, number of candidates, formats) are read from there.
    `annotation` and `imgs_path` are its prompt file and folder of pictures, where they are.
    `slices` has the ids of each process's prompts, in its order. `judge_skipped` says why GenEval does not run (None: it
    does, with `judge`). `hashes` has what run.json records of each file and folder by key, in the first process.
    """

    config: RunConfig
    process: Process
    models: ResolvedModels
    annotation: Path
    imgs_path: Path | None
    prompts: tuple[Prompt, ...]
    slices: tuple[tuple[int, ...], ...]
    judge: GenEvalSpec | None
    judge_skipped: str | None
    hashes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def mine(self) -> list[Prompt]:
        """The prompts of this process, in its order."""
        return [self.prompts[index] for index in self.slices[self.process.index]]

    @property
    def sources(self) -> tuple[Source, ...]:
        """Every file and folder that the run reads."""
        return (*self.models.sources, *(self.judge.sources if self.judge else ()))

    @property
    def downloads(self) -> tuple[Source, ...]:
        """The sources, and what open_clip would fetch by itself."""
        return (*self.sources, *(self.judge.open_clip_weights() if self.judge else ()))

    @property
    def rejudges(self) -> bool:
        """The run's own pictures are judged again."""
        return self.config.re_eval and not self.config.imgs_path


def resolve(config: RunConfig, process: Process = Process(), fetch: Fetch = "all") -> ResolvedRun:
    """Finds, checks and, where the Hub has it, fetches all that a run needs; loads no model.

    With `fetch` `configs`, JSON files of the Hub alone are fetched (the download command's first look), with `nothing` not
    even they (a dry run); what is not here is no error then. Raises a VHSError for what cannot run, cheap checks first.
    """
    judge, skipped = _judge(config, process)
    annotation, pictures = find(config.annotation), find(config.imgs_path) if config.imgs_path else None
    prompts = read_prompts(annotation, _record_check(judge))
    if judge is not None and not any(prompt.judged for prompt in prompts):
        skipped = f"no prompt in {config.annotation} has GenEval's metadata; pictures are made and scored"
        judge = None
    models = resolve_models(config, process, fetch)
    slices = _slices(config, len(prompts), process.count)
    if fetch == "all" and judge is not None:
        judge = judge.fetched()
    run = ResolvedRun(config, process, models, annotation, pictures, tuple(prompts), slices, judge, skipped)
    if process.first and fetch == "all":
        return replace(run, hashes={source.key: source.hash() for source in run.sources})
    return run


def resolve_models(config: RunConfig, process: Process = Process(), fetch: Fetch = "all") -> ResolvedModels:
    """The generator and verifier of a configuration, checked against each other. See `resolve`."""
    device = resolve_device(config.device, process)
    dtype = resolve_dtype(config.dtype, device)
    offline = fetch == "nothing"
    generator = resolve_generator(config, device, dtype, offline) if config.generates else None
    verifier = resolve_verifier(config, offline)
    if fetch == "all":
        generator = generator.fetched() if generator else None
        verifier = verifier.fetched(generator.info.tokens if generator else None)
    if generator is not None and generator.info is not None:
        generator.info.require_reader(verifier.block, verifier.width, getattr(verifier, "trained_on", None))
    if verifier.reads in ("hidden", "latent") and config.imgs_path:
        raise ConfigError(
            f"imgs_path: the verifier reads {verifier.reads} features, which pictures do not have; "
            "choose one that reads pictures, or latent_verifier: false with generation_mode: dev"
        )
    return ResolvedModels(device, dtype, config.micro_batch, generator, verifier)


def _judge(config: RunConfig, process: Process) -> tuple[GenEvalSpec | None, str | None]:
    """The judge, or why there is none."""
    if config.dataset != "geneval":
        return None, f"dataset is {config.dataset}"
    if config.segmentation_ckpt_path is None:
        return None, "the configuration names no detector (segmentation_ckpt_path)"
    return resolve_judge(config, resolve_device(config.device, process)), None


def _record_check(judge: GenEvalSpec | None) -> Callable[[Mapping[str, Any], str], None] | None:
    """What refuses a record that the judge's rules cannot judge with its detector's classes."""
    return None if judge is None else lambda record, where: check_metadata(record, judge.names, where)


def _slices(config: RunConfig, prompts: int, processes: int) -> tuple[tuple[int, ...], ...]:
    if config.noise == "published":
        return tuple(tuple(published_order(config.seed, prompts, index, processes)) for index in range(processes))
    return tuple(tuple(Process(index, processes).of(range(prompts))) for index in range(processes))


def _hide_loading_bars() -> None:
    """The libraries' own bars for every file would bury the run's; downloads keep theirs."""
    from diffusers.utils import logging as diffusers
    from transformers.utils import logging as transformers

    diffusers.disable_progress_bar()
    transformers.disable_progress_bar()
