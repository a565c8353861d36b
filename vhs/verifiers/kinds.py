"""Registry entries of every kind but llava's, before they are loaded: what they say, where their files are."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vhs.checkpoints.boundary import loading
from vhs.checkpoints.bounds import read_config
from vhs.checkpoints.open_clip_files import check_open_clip
from vhs.checkpoints.source import Source, find_file, find_model
from vhs.config.run import VerifierKeys
from vhs.config.yamlfile import nearest
from vhs.errors import CheckpointError, ConfigError
from vhs.records import Prompt
from vhs.verifiers.base import Reads, Verifier
from vhs.verifiers.own import build, check_arguments, load_class, read_blocks
from vhs.verifiers.registry import Entry
from vhs.verifiers.spec import require_fields

if TYPE_CHECKING:
    from vhs.verifiers.rewards import Clip
    from vhs.verifiers.score_file import ScoreFile

CLIP_FILES = (
    *("config.json", "preprocessor_config.json", "tokenizer*.json", "vocab.json", "merges.txt"),
    *("special_tokens_map.json", "model.safetensors", "model.safetensors.index.json", "model-*.safetensors"),
)
PROCESSOR_FILES = CLIP_FILES[:-3]
OPEN_CLIP_FILES = (
    "open_clip_config.json",
    "open_clip_model.safetensors",
    "tokenizer*.json",
    "vocab.json",
    "merges.txt",
)
HPS_FILE = "HPS_v2.1_compressed.pt"
DEFAULTS = {
    "clip_score": {"latent_verifier_path": "openai/clip-vit-large-patch14"},
    "pick_score": {
        "latent_verifier_path": "yuvalkirstain/PickScore_v1",
        "processor": "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
    },
    "hps": {"latent_verifier_path": "xswu/HPSv2", "architecture": "ViT-H-14"},
    "aesthetic": {"latent_verifier_path": "openai/clip-vit-large-patch14", "head": None},
}
"""Fields of each pretrained reward with their defaults: Hub ids, and an architecture of open_clip."""
LIBRARIES = ("transformers", "open_clip")


@dataclass(frozen=True)
class VlmSpec:
    """An image-text-to-text model of transformers as a yes/no scorer (`vhs.verifiers.vlm`)."""

    source: Source
    settings: Mapping[str, Any]
    question: str
    answers: Mapping[str, Sequence[str]]
    score: str
    trust_remote_code: bool
    kind: str = "vlm"
    reads: Reads = "image"
    block: int | None = None
    width: int | None = None

    @property
    def sources(self) -> tuple[Source, ...]:
        return (self.source,)

    def fetched(self, tokens: int | None) -> VlmSpec:
        from vhs.verifiers.vlm import check_vlm

        source = self.source.fetched()
        check_vlm(source.path, self.answers, source.name, self.trust_remote_code)
        return replace(self, source=source)

    def load(self, device: str, dtype: str, micro_batch: int | None) -> Verifier:
        from vhs.verifiers.vlm import VisionLanguageModel, VlmVerifier

        folder = self.source.require()
        with loading("vision-language model", folder):
            model = VisionLanguageModel.load(folder, device, dtype, micro_batch, self.trust_remote_code)
        return VlmVerifier(model, self.question, self.answers, self.score)


def resolve_vlm(entry: Entry, config: VerifierKeys, offline: bool) -> VlmSpec:
    """Fields: latent_verifier_path; question, answers, score, trust_remote_code."""
    from vhs.verifiers.vlm import ANSWERS, QUESTION, VLM_FILES

    values = require_fields(entry, ("latent_verifier_path", "question", "answers", "score", "trust_remote_code"))
    question, answers = values.get("question", QUESTION), values.get("answers", ANSWERS)
    if not isinstance(question, str) or "{prompt}" not in question:
        raise ConfigError(f"{entry.where}: question is {question!r}; a text with {{prompt}} in it is right")
    if not isinstance(answers, Mapping) or set(answers) != {"yes", "no"} or not all(map(_texts, answers.values())):
        raise ConfigError(f"{entry.where}: answers is {answers!r}; {{'yes': ['Yes', ...], 'no': ['No', ...]}} is right")
    score = _one_of(entry, "score", values.get("score", "signed"), ("signed", "p_yes"))
    trusted = values.get("trust_remote_code", False)
    if not isinstance(trusted, bool):
        raise ConfigError(f"{entry.where}: trust_remote_code is true or false")
    patterns = (*VLM_FILES, "*.py") if trusted else VLM_FILES
    source = find_model("latent_verifier_path", _path(entry, config, values), patterns)
    return VlmSpec(source, _settings(entry, "vlm"), question, answers, score, trusted)


@dataclass(frozen=True)
class RewardSpec:
    """A pretrained reward (`vhs.verifiers.rewards`); `extra` is PickScore's processor or the aesthetic head."""

    kind: str
    source: Source
    settings: Mapping[str, Any]
    library: str
    extra: Source | None = None
    architecture: str = ""
    says_yes: bool = False
    reads: Reads = "image"
    block: int | None = None
    width: int | None = None

    @property
    def sources(self) -> tuple[Source, ...]:
        return (self.source, *([self.extra] if self.extra else []))

    def fetched(self, tokens: int | None) -> RewardSpec:
        spec = replace(self, source=self.source.fetched(), extra=self.extra.fetched() if self.extra else None)
        if self.kind == "hps":
            _hps_file(spec.source.path)
        elif self.library == "transformers":
            config = spec.source.path / "config.json"
            if (found := read_config(config).get("model_type")) != "clip":
                raise CheckpointError(f"{config}: model_type is {found!r}; a whole CLIP model ('clip') is needed")
        else:
            check_open_clip(spec.source.path, "latent_verifier_path")
        return spec

    def load(self, device: str, dtype: str, micro_batch: int | None) -> Verifier:
        from vhs.verifiers import rewards

        with loading("reward", self.source.name):
            clip = self._clip(device, dtype)
        if self.kind == "aesthetic":
            width = len(clip.text("a"))
            return rewards.AestheticVerifier(clip, rewards.load_head(self.extra.require(), width), micro_batch)
        scale = {"clip_score": rewards.CLIP_SCALE, "pick_score": clip.logit_scale, "hps": 1.0}[self.kind]
        return rewards.SimilarityVerifier(clip, scale, micro_batch)

    def _clip(self, device: str, dtype: str) -> Clip:
        from vhs.verifiers.rewards import OpenClip, TransformersClip

        path = self.source.require()
        if self.kind == "hps":
            return OpenClip.from_checkpoint(self.architecture, _hps_file(path), device, dtype)
        if self.library == "open_clip":
            return OpenClip.from_folder(path, device, dtype)
        processor = self.extra.require() if self.kind == "pick_score" else None
        return TransformersClip.from_folder(path, processor, device, dtype)


def resolve_reward(entry: Entry, config: VerifierKeys, offline: bool) -> RewardSpec:
    """Fields: latent_verifier_path, and by kind library (clip_score, aesthetic), processor, architecture, head."""
    kind = entry.values["kind"]
    library = ("library",) if kind in ("clip_score", "aesthetic") else ()
    values = {**DEFAULTS[kind], **require_fields(entry, (*DEFAULTS[kind], *library))}
    name = _path(entry, config, values)
    source = find_model("latent_verifier_path", name, (HPS_FILE,) if kind == "hps" else CLIP_FILES)
    opened = source.repository is None and (source.path / "open_clip_config.json").is_file()
    found = "open_clip" if opened and not (source.path / "config.json").is_file() else "transformers"
    found = _one_of(entry, "library", values.get("library", found), LIBRARIES)
    if found == "open_clip":
        source = find_model("latent_verifier_path", name, OPEN_CLIP_FILES)
    extra = None
    if kind == "pick_score":
        extra = find_model("processor", str(values["processor"]), PROCESSOR_FILES)
    elif kind == "aesthetic":
        if not values["head"]:
            raise ConfigError(f"{entry.where}: needs head, the predictor's .pth file; see docs/verifiers.md")
        extra = find_file("head", str(values["head"]))
    elif kind == "hps":
        _require_architecture(entry, values["architecture"])
    return RewardSpec(kind, source, _settings(entry, kind), found, extra, values.get("architecture", ""))


@dataclass(frozen=True)
class ClassSpec:
    """A class of the user's own (`vhs.verifiers.own`)."""

    found: type
    kwargs: Mapping[str, Any]
    name: str
    settings: Mapping[str, Any]
    sources: tuple[Source, ...]
    kind: str = "class"

    @property
    def reads(self) -> Reads:
        return self.found.reads

    @property
    def block(self) -> int | None:
        return self.blocks[-1] if self.blocks else None

    @property
    def blocks(self) -> tuple[int, ...]:
        return read_blocks(self.found)

    @property
    def width(self) -> int | None:
        return getattr(self.found, "width", None)

    @property
    def compares(self) -> bool:
        """It only says which of two is better: `selection: {tournament: k}` is needed."""
        return not hasattr(self.found, "score")

    def fetched(self, tokens: int | None) -> ClassSpec:
        return self

    def load(self, device: str, dtype: str, micro_batch: int | None) -> Verifier:
        run = {"device": device, "dtype": dtype, "micro_batch": micro_batch}
        return build(self.found, self.kwargs, run, self.name)


def resolve_class(entry: Entry, config: VerifierKeys, offline: bool) -> ClassSpec:
    """Fields: class, `package.module:Class`, and kwargs, its constructor's arguments."""
    values = require_fields(entry, ("class", "kwargs"))
    kwargs = values.get("kwargs", {})
    if not isinstance(kwargs, Mapping):
        raise ConfigError(f"{entry.where}: kwargs is {kwargs!r}; a dict of arguments is right")
    found = load_class(str(values["class"]), entry.file.parent, entry.where)
    check_arguments(found, kwargs, entry.where)
    file = Source("class", str(values["class"]), Path(inspect.getfile(found)))
    return ClassSpec(found, kwargs, entry.name, _settings(entry, "class"), (file,))


@dataclass(frozen=True)
class ScoresSpec:
    """Scores from a file (`vhs.verifiers.score_file`)."""

    source: Source
    settings: Mapping[str, Any]
    kind: str = "scores"
    reads: Reads = "nothing"
    block: int | None = None
    width: int | None = None
    file: ScoreFile | None = field(default=None, compare=False)

    @property
    def sources(self) -> tuple[Source, ...]:
        return (self.source,)

    def fetched(self, tokens: int | None) -> ScoresSpec:
        from vhs.verifiers.score_file import ScoreFile

        return replace(self, file=ScoreFile(self.source.require()))

    def require(self, prompts: Sequence[Prompt], count: int, picture: Callable[[int, int], Path] | None = None) -> None:
        """See `ScoreFile.require`."""
        if self.file is not None:
            self.file.require(prompts, count, picture)

    def load(self, device: str, dtype: str, micro_batch: int | None) -> Verifier:
        from vhs.verifiers.score_file import ScoreFile

        return self.file or ScoreFile(self.source.require())


def resolve_scores(entry: Entry, config: VerifierKeys, offline: bool) -> ScoresSpec:
    """Field: scores, the JSONL file."""
    values = require_fields(entry, ("scores",))
    if not isinstance(values.get("scores"), str):
        raise ConfigError(f"{entry.where}: needs scores, a file that verifier_scripts/score.py wrote")
    beside = entry.file.parent / values["scores"]
    source = Source("scores", values["scores"], beside) if beside.is_file() else find_file("scores", values["scores"])
    if source.path is None:
        raise ConfigError(f"{entry.where}: scores: {values['scores']}: no such file")
    return ScoresSpec(source, _settings(entry, "scores"))


def _path(entry: Entry, config: VerifierKeys, values: Mapping[str, Any]) -> str:
    path = config.latent_verifier_path or values.get("latent_verifier_path")
    if not isinstance(path, str) or not path:
        raise ConfigError(f"{entry.where}: needs latent_verifier_path, a folder or Hub id")
    return path


def _settings(entry: Entry, kind: str) -> dict[str, Any]:
    """What run.json records of an entry."""
    return {"name": entry.name, "kind": kind, **{key: _plain(value) for key, value in entry.values.items()}}


def _plain(value: Any) -> Any:
    """As JSON has it; whatever JSON has not as its repr."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value if isinstance(value, (str, int, float, bool)) or value is None else repr(value)


def _texts(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and bool(value) and all(map(_is_text, value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _one_of(entry: Entry, name: str, value: Any, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise ConfigError(f"{entry.where}: {name} {value!r}{nearest(str(value), choices)}; one of {', '.join(choices)}")
    return value


def _hps_file(path: Path) -> Path:
    file = path / HPS_FILE if path.is_dir() else path
    if not file.is_file():
        raise CheckpointError(f"latent_verifier_path: {file}: missing; HPSv2's checkpoint is a .pt file")
    return file


def _require_architecture(entry: Entry, name: Any) -> None:
    import open_clip

    if name not in open_clip.list_models():
        known = nearest(str(name), open_clip.list_models())
        raise ConfigError(f"{entry.where}: open_clip has no architecture {name!r}{known}; HPSv2's is ViT-H-14")
