"""Settles a configuration once: which models, files, device, precision and prompts it means, before anything is loaded.

Below this module nobody looks at `auto`, the registry, a search path or the Hub again: specs know their files and load
themselves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from vhs.checkpoints.hashes import file_hash
from vhs.checkpoints.source import Source
from vhs.config.run import RunConfig
from vhs.device import resolve_device, resolve_dtype
from vhs.errors import ConfigError, PromptError
from vhs.fitting import fit_micro_batch
from vhs.generators.spec import GeneratorSpec, resolve_generator
from vhs.geneval.folders import candidates
from vhs.judges.base import JudgeSpec
from vhs.judges.spec import resolve_judges
from vhs.paths import find
from vhs.processes import Process
from vhs.prompts import read_prompts
from vhs.records import Prompt
from vhs.seeding import published_order
from vhs.select import Rule
from vhs.verifiers.base import blocks_of, reading
from vhs.verifiers.spec import VerifierSpec, resolve_by_name, resolve_verifier

if TYPE_CHECKING:
    from vhs.generators.base import Generator
    from vhs.verifiers.base import Verifier

Fetch = Literal["all", "configs", "nothing"]
LARGE_ON_CPU = 200_000_000
"""Parameters of a network above which `device: auto` does not take the CPU."""
LoadedModels: TypeAlias = "tuple[Generator, Verifier | None, Verifier | None]"
"""Generator, verifier and a cascade's second verifier, on their device."""


@dataclass(frozen=True)
class ResolvedModels:
    """The generator and the verifier of a configuration, on a device. `generator` is None where pictures are read."""

    device: str
    dtype: str
    micro_batch: int
    generator: GeneratorSpec | None
    verifier: VerifierSpec
    reranker: VerifierSpec | None = None
    fits_itself: bool = False
    """`micro_batch: auto`: it is settled when the models are loaded."""

    @property
    def compiles(self) -> bool:
        """`compile: true`."""
        return getattr(getattr(self.generator, "settings", None), "compile", False)

    @property
    def sources(self) -> tuple[Source, ...]:
        """Every file and folder that they read."""
        second = self.reranker.sources if self.reranker else ()
        return (
            *(self.generator.sources if self.generator else ()),
            *self.verifier.sources,
            *(replace(source, key=f"rerank: {source.key}") for source in second),
        )

    @property
    def verifiers(self) -> dict[str, dict[str, Any]]:
        """What run.json records of the verifier and of a cascade's second one: what they read, and their entries."""
        specs = {"verifier": self.verifier, "reranker": self.reranker}
        return {
            name: {"kind": spec.kind, **reading(spec), **getattr(spec, "settings", {})}
            for name, spec in specs.items()
            if spec is not None
        }

    def load_generator(self) -> Generator:
        """The generator, on the device. Raises CheckpointError."""
        assert self.generator is not None, "pictures are read, nothing generates"
        _hide_loading_bars()
        return self.generator.load()

    def load_verifier(self) -> Verifier | None:
        """The verifier, on the device; None: candidate 0 wins. Raises CheckpointError."""
        _hide_loading_bars()
        verifier = self.verifier.load(self.device, self.dtype, self.micro_batch)
        if self.compiles and hasattr(verifier, "compile"):
            verifier.compile()
        return verifier

    def load_reranker(self) -> Verifier | None:
        """The second verifier of a cascade, None without one. Raises CheckpointError."""
        return self.reranker.load(self.device, self.dtype, self.micro_batch) if self.reranker else None

    def load(self) -> LoadedModels:
        """All three. Raises CheckpointError."""
        verifier = self.load_verifier()
        generator, reranker = self.load_generator(), self.load_reranker()
        if self.fits_itself and self.device.startswith("cuda"):
            fit_micro_batch(generator, verifier, self.device)
        return generator, verifier, reranker


@dataclass(frozen=True)
class ResolvedRun:
    """A run as this process will work on it.

    `config` is the configuration as given; its plain values (seed, number of candidates, formats) are read from there.
    `annotation` and `imgs_path` are its prompt file and folder of pictures, where they are.
    `slices` has the ids of each process's prompts, in its order. `judge_skipped` says why there is no judge (None:
    there is one). `hashes` has what run.json records of each file and folder by key, in the first process.
    """

    config: RunConfig
    process: Process
    models: ResolvedModels
    annotation: Path
    imgs_path: Path | None
    prompts: tuple[Prompt, ...]
    slices: tuple[tuple[int, ...], ...]
    judges: tuple[JudgeSpec, ...]
    judge_skipped: str | None
    hashes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def mine(self) -> list[Prompt]:
        """The prompts of this process, in its order."""
        return [self.prompts[index] for index in self.slices[self.process.index]]

    @property
    def sources(self) -> tuple[Source, ...]:
        """Every file and folder that the run reads."""
        return (*self.models.sources, *(source for judge in self.judges for source in judge.sources))

    @property
    def downloads(self) -> tuple[Source, ...]:
        """The sources, and what open_clip would fetch by itself."""
        return (*self.models.sources, *(source for judge in self.judges for source in judge.downloads))

    @property
    def rejudges(self) -> bool:
        """The run's own pictures are judged again."""
        return self.config.re_eval and not self.config.imgs_path


def resolve(config: RunConfig, process: Process = Process(), fetch: Fetch = "all", hashed: bool = True) -> ResolvedRun:
    """Finds, checks and, where the Hub has it, fetches all that a run needs; loads no model.

    With `fetch` `configs`, JSON files of the Hub alone are fetched (the download command's first look), with `nothing`
    not even they (a dry run); what is not here is no error then. Raises a VHSError for what cannot run, cheap checks
    first.
    """
    judges, skipped = _judges(config, process)
    annotation, pictures = find(config.annotation), find(config.imgs_path) if config.imgs_path else None
    prompts = read_prompts(annotation, _record_check(judges))
    for judge in judges:
        if any(judge.judges(prompt.record) for prompt in prompts):
            continue
        if config.judge is not None:
            raise PromptError(
                f"{config.annotation}: no prompt in it has GenEval's metadata, which {judge.name} judges by"
            )
        skipped = f"no prompt in {config.annotation} has GenEval's metadata; pictures are made and scored"
        judges = ()
    models = resolve_models(config, process, fetch)
    split = slices(config, len(prompts), process.count)
    if fetch == "all":
        judges = tuple(judge.fetched() for judge in judges)
    if fetch != "nothing" and hasattr(models.verifier, "require"):
        models.verifier.require(prompts, config.num_samples, _picture_of(pictures))
    if fetch == "all" and hasattr(models.verifier, "check_prompts"):
        models.verifier.check_prompts(prompts, models.generator.info.tokens if models.generator else None)
    run = ResolvedRun(config, process, models, annotation, pictures, tuple(prompts), split, judges, skipped)
    if process.first and fetch == "all" and hashed:
        hashes = {source.key: source.hash() for source in run.sources}
        return replace(run, hashes=hashes | ({"imgs_path": _pictures_hash(run)} if pictures else {}))
    return run


def _pictures_hash(run: ResolvedRun) -> dict[str, Any]:
    """What run.json records of the pictures that the run reads."""
    digest = hashlib.sha256()
    for prompt in run.prompts:
        for file in candidates(run.imgs_path, prompt.id)[: run.config.num_samples]:
            digest.update(f"{prompt.id} {file.name} {file_hash(file)}\n".encode())
    return {"path": str(run.imgs_path), "sha256": digest.hexdigest()}


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
    if fetch == "all" and (reason := wants_gpu(config, device, generator)):
        raise ConfigError(reason)
    if generator is not None and generator.info is not None:
        trained_on = getattr(verifier, "trained_on", None)
        generator.info.require_reader(blocks_of(verifier), verifier.width, trained_on, config.cross_generator)
    if verifier.reads in ("hidden", "latent") and config.imgs_path:
        raise ConfigError(
            f"imgs_path: the verifier reads {verifier.reads} features, which pictures do not have; "
            "choose one that reads pictures, or latent_verifier: false with generation_mode: dev"
        )
    _require_scores(verifier, config.rule if config.rerank is None else Rule())
    if config.stop_when is not None:
        _require_reachable(verifier, config.stop_when)
    reranker = _reranker(config, offline, fetch) if config.rerank else None
    return ResolvedModels(device, dtype, config.at_once, generator, verifier, reranker, config.micro_batch == "auto")


def wants_gpu(config: RunConfig, device: str, generator: GeneratorSpec | None) -> str | None:
    """Why a network that landed on the CPU because `device: auto` found no GPU does not run there; else None."""
    size = generator.info.parameters if generator and generator.info else 0
    if config.device != "auto" or device != "cpu" or size <= LARGE_ON_CPU:
        return None
    return (
        f"device: auto found no GPU, and {config.ckpt} has about {size / 1e9:.1f} billion parameters, which take "
        "minutes a picture on a CPU; run it where torch sees a GPU, or insist with device=cpu"
    )


def _reranker(config: RunConfig, offline: bool, fetch: Fetch) -> VerifierSpec:
    """The second verifier of a cascade."""
    name = config.rerank.verifier
    spec = resolve_by_name(name, config, offline)
    if spec.reads != "image":
        what = "nothing" if spec.reads == "nothing" else f"{spec.reads} features"
        raise ConfigError(f"rerank: {name} reads {what}; the second verifier of a cascade reads pictures")
    _require_scores(spec, config.rule)
    return spec.fetched(None) if fetch == "all" else spec


def _require_scores(spec: VerifierSpec, rule: Rule) -> None:
    """A verifier that only compares needs a tournament, a draw among the yes answers one that answers."""
    if rule.name == "random_yes" and not getattr(spec, "says_yes", True):
        raise ConfigError(
            f"selection: random_yes needs a verifier that answers yes or no; {spec.kind} gives a score only"
        )
    if getattr(spec, "compares", False) and rule.name != "tournament":
        raise ConfigError(f"selection: {spec.name} has no score, it only compares; set selection: {{tournament: 1}}")


def _require_reachable(spec: VerifierSpec, stop_when: float) -> None:
    """A verifier that answers yes or no scores from -1 to 1."""
    if getattr(spec, "says_yes", True) and not -1 <= stop_when <= 1:
        raise ConfigError(f"stop_when: {stop_when:g} is outside the verifier's scores, which go from -1 to 1")


def _picture_of(folder: Path | None) -> Callable[[int, int], Path] | None:
    """Where a candidate's picture is, of pictures that are read from a folder; a place without one is missing."""
    if folder is None:
        return None

    def picture(prompt_id: int, candidate: int) -> Path:
        found = candidates(folder, prompt_id)
        return found[candidate] if candidate < len(found) else folder / f"{prompt_id:05d}"

    return picture


def _judges(config: RunConfig, process: Process) -> tuple[tuple[JudgeSpec, ...], str | None]:
    """The judges, or why there is none."""
    if config.judge is None and config.dataset != "geneval":
        return (), f"dataset is {config.dataset}"
    if config.judge is None and config.segmentation_ckpt_path is None:
        return (), "the configuration names no detector (segmentation_ckpt_path)"
    device = resolve_device(config.device, process)
    judges = resolve_judges(config, device, resolve_dtype(config.dtype, device))
    return judges, None if judges else "judge is none"


def _record_check(judges: Sequence[JudgeSpec]) -> Callable[[Mapping[str, Any], str], None]:
    """What refuses a record that one of the judges is for and cannot judge."""

    def check(record: Mapping[str, Any], where: str) -> None:
        for judge in judges:
            if judge.judges(record):
                judge.check(record, where)

    return check


def slices(config: RunConfig, prompts: int, processes: int) -> tuple[tuple[int, ...], ...]:
    """The prompts' ids by process, each in its order."""
    if config.noise == "published":
        return tuple(tuple(published_order(config.seed, prompts, index, processes)) for index in range(processes))
    return tuple(tuple(Process(index, processes).of(range(prompts))) for index in range(processes))


def _hide_loading_bars() -> None:
    """The libraries' own bars for every file would bury the run's; downloads keep theirs."""
    from diffusers.utils import logging as diffusers
    from transformers.utils import logging as transformers

    diffusers.disable_progress_bar()
    transformers.disable_progress_bar()
