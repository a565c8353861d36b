"""Scores of any registered verifier over candidates that are there already: a run's, or any pictures.

Pictures are read from disk; hidden states and latents are made again from the run's seeds. One file per verifier is
written (`vhs.verifiers.score_file`), which a registry entry of kind `scores` or a comparison of verifiers reads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vhs.choosing import require_finite
from vhs.config.run import RunConfig
from vhs.config.yamlfile import build
from vhs.device import resolve_device, resolve_dtype
from vhs.errors import ConfigError, RunError
from vhs.files import read_form, write_json
from vhs.generators.base import stopped_at
from vhs.pictures import Pictures
from vhs.records import Prompt, Score
from vhs.resolve import ResolvedModels, resolve_models
from vhs.runs.forms import Seconds
from vhs.runs.report.data import RunData, read_run
from vhs.runs.sources import published_noise
from vhs.seeding import candidate_seed
from vhs.verifiers.base import ask, blocks_of
from vhs.verifiers.score_file import picture_hash, write_score_file
from vhs.verifiers.spec import VerifierSpec, resolve_by_name, resolve_verifier

if TYPE_CHECKING:
    from vhs.generators.base import Generator
    from vhs.verifiers.base import Verifier

FOLDER = "scores"
"""Where a run's score files are, one JSONL per verifier."""
TIMINGS = Path(FOLDER, "timings.json")
"""Wall-clock seconds per candidate, one number per prompt, by verifier."""
Features = Callable[[Prompt], Any]


def score_file(root: Path, name: str) -> Path:
    """Where a verifier's scores of a run's candidates are."""
    return root / FOLDER / f"{name.replace('/', '_')}.jsonl"


def score_run(
    root: Path, names: Sequence[str], keys: Mapping[str, Any] | None = None, say: Callable[[str], None] = print
) -> list[Path]:
    """Scores every candidate of a run by each of the named verifiers; returns the files that were written.

    `keys` are keys of the configuration that replace the run's own, such as device or registry. Raises a VHSError
    before any model loads where that can be known; a file is written when its verifier has scored all prompts.
    """
    data = read_run(root)
    config = run_config(data, keys or {})
    specs = {name: _spec(name, config) for name in names}
    generator = _resolve_generator(data, config, specs)
    tokens = generator.generator.info.tokens if generator else None
    specs = {name: spec.fetched(tokens) for name, spec in specs.items()}
    for spec in specs.values():
        if hasattr(spec, "require"):
            spec.require(data.table.prompts, data.table.num_samples, data.picture)
    loaded = generator.load_generator() if generator else None
    device = resolve_device(config.device)
    dtype = resolve_dtype(config.dtype, device)
    files = []
    for name, spec in specs.items():
        verifier = spec.load(device, dtype, config.at_once)
        seconds: list[float] = []
        rows = list(_rows(data, verifier, features_of(data, config, spec, loaded), name, seconds))
        files.append(score_file(Path(root), name))
        write_score_file(files[-1], rows)
        _keep_timings(data.root / TIMINGS, name, seconds)
        say(f"{files[-1]}: {len(rows)} candidates of {len(data.table.prompts)} prompts")
    return files


def _spec(name: str, config: RunConfig) -> VerifierSpec:
    """The run's own verifier by the name that its files carry, or an entry of the registry. Raises ConfigError for one
    that gives no scores."""
    if config.latent_verifier and name == config.verifier_label:
        spec = resolve_verifier(config)
    else:
        spec = resolve_by_name(name, config)
        spec = resolve_by_name(name, config, alone=False) if spec.reads == "hidden" else spec
    if spec.kind == "none" or getattr(spec, "compares", False):
        raise ConfigError(f"{name}: gives no scores to write down")
    return spec


def _resolve_generator(data: RunData, config: RunConfig, specs: Mapping[str, VerifierSpec]) -> ResolvedModels | None:
    """The run's generator where a verifier reads what it makes; pictures must be there where one reads them."""
    pictures = [name for name, spec in specs.items() if spec.reads == "image"]
    count = range(data.table.num_samples)
    missing = [
        path
        for prompt in data.table.prompts
        for index in count
        if not (path := data.picture(prompt.id, index)).is_file()
    ]
    if pictures and missing:
        raise RunError(
            f"{data.root}: {len(missing)} pictures are missing ({missing[0].name} of prompt {missing[0].parts[-3]}); "
            f"{pictures[0]} reads those of every candidate: make the run with generation_mode: dev"
        )
    made = [name for name, spec in specs.items() if spec.reads in ("hidden", "latent")]
    if not made:
        return None
    if config.imgs_path:
        raise ConfigError(f"{made[0]}: reads {specs[made[0]].reads} features; this run's pictures were made elsewhere")
    off = {"latent_verifier": False, "ensemble": None, "rerank": None, "selection": "argmax", "lora_weights": None}
    models = resolve_models(config.changed(**off, generation_mode="dev"))
    for spec in specs.values():
        if spec.reads == "hidden":
            models.generator.info.require_hidden(blocks_of(spec), spec.width)
    return models


def run_config(data: RunData, keys: Mapping[str, Any]) -> RunConfig:
    """The configuration that a run was made with, on this machine's device. Raises ConfigError."""
    known = {key: value for key, value in data.config.items() if key in RunConfig.model_fields}
    fresh = {"cont": False, "re_eval": False, "device": "auto", "dtype": "auto"}
    return build(RunConfig, {**known, **fresh, **keys}, source=str(data.root / "run.json"))


def features_of(data: RunData, config: RunConfig, spec: VerifierSpec, generator: Generator | None) -> Features:
    """What a verifier reads of a prompt's candidates."""
    count = data.table.num_samples
    if spec.reads == "nothing":
        return lambda prompt: count
    if spec.reads == "image":
        return lambda prompt: Pictures([data.picture(prompt.id, index) for index in range(count)])
    noise = _noise(data, config, generator)

    def made(prompt: Prompt) -> Any:
        text = generator.encode([prompt.text])[0]
        draws = noise(prompt, count)
        if spec.reads == "hidden":
            return stopped_at(generator, draws, text, blocks_of(spec))[0]
        return generator.generate(draws, text)

    return made


def _noise(data: RunData, config: RunConfig, generator: Generator) -> Callable[[Prompt, int], Any]:
    """The noise that the run's candidates were made from."""
    if config.noise == "candidate":
        return lambda prompt, count: generator.noise([candidate_seed(config.seed, prompt.id, i) for i in range(count)])
    shards = data.manifest["seeds"].get("processes", 1)
    streams = [published_noise(config, data.expected, generator.info, shard, shards) for shard in range(shards)]
    own = {prompt: stream for stream in streams for prompt in stream.order}
    return lambda prompt, count: own[prompt.id].noise(prompt.id)[:count]


def _keep_timings(file: Path, name: str, seconds: Sequence[float]) -> None:
    before = read_form(file, dict[str, list[Seconds]], remedy="remove it") if file.is_file() else {}
    write_json(file, {**before, name: list(seconds)})


@dataclass(frozen=True)
class _Line:
    """One candidate's line of a score file."""

    prompt: Prompt
    candidate: int
    score: Score
    picture: Path
    root: Path

    def as_dict(self) -> dict[str, Any]:
        line = {"prompt_id": self.prompt.id, "candidate": self.candidate, "prompt": self.prompt.text}
        line |= {"picture": str(self.picture.relative_to(self.root)), "score": float(self.score.score[self.candidate])}
        for name in ("p_yes", "p_no", "correct"):
            if (column := getattr(self.score, name)) is not None:
                line[name] = column[self.candidate].item()
        return line | ({"sha256": picture_hash(self.picture)} if self.picture.is_file() else {})


def _rows(
    data: RunData, verifier: Verifier, features: Features, name: str, seconds: list[float]
) -> Iterator[dict[str, Any]]:
    from tqdm import tqdm

    with tqdm(data.table.prompts, desc=name, unit="prompt", dynamic_ncols=True) as prompts:
        for prompt in prompts:
            read = features(prompt)
            start = time.perf_counter()
            score = ask(verifier, prompt, read)
            seconds.append((time.perf_counter() - start) / data.table.num_samples)
            require_finite(prompt, score)
            for index in range(data.table.num_samples):
                yield _Line(prompt, index, score, data.picture(prompt.id, index), data.root).as_dict()
