"""A verifier before it is loaded: which one a configuration means, and where its files are.

KINDS maps a registry entry's `kind` to what resolves it. Adding a kind is one line there and one function: it is given
the entry's values under the configuration's own keys, and returns a `VerifierSpec`.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Protocol

from vhs.checkpoints.source import Source
from vhs.config.run import RunConfig
from vhs.config.yamlfile import nearest
from vhs.errors import ConfigError
from vhs.verifiers.base import Reads, Verifier
from vhs.verifiers.registry import Entry, find_entry, load_registry

KINDS = {
    "llava": "vhs.verifiers.load:resolve_llava_entry",
    "random": "vhs.verifiers.spec:resolve_random",
    "none": "vhs.verifiers.spec:resolve_none",
    "vlm": "vhs.verifiers.kinds:resolve_vlm",
    "clip_score": "vhs.verifiers.kinds:resolve_reward",
    "pick_score": "vhs.verifiers.kinds:resolve_reward",
    "hps": "vhs.verifiers.kinds:resolve_reward",
    "aesthetic": "vhs.verifiers.kinds:resolve_reward",
    "scores": "vhs.verifiers.kinds:resolve_scores",
    "class": "vhs.verifiers.kinds:resolve_class",
}
"""Kind of a registry entry -> `module:function` of (entry, configuration, offline), imported when it is needed. An
entry with `class` is of that kind."""


class VerifierSpec(Protocol):
    """What is known of a verifier before it is loaded.

    `reads`, `block` and `width` are those of `Verifier`; `sources` are the files and folders that it reads.
    """

    kind: str
    reads: Reads
    block: int | None
    width: int | None
    sources: tuple[Source, ...]

    def fetched(self, tokens: int | None) -> VerifierSpec:
        """The same with every source here, and checked as far as files tell, for `tokens` image tokens.

        Raises CheckpointError.
        """

    # check_prompts(prompts, tokens): optional, called where every source is here; raises PromptError, naming file and
    # line, for a prompt that the verifier cannot be asked about. `tokens` as in `fetched`.

    def load(self, device: str, dtype: str, micro_batch: int | None) -> Verifier | None:
        """The verifier on its device; None scores nothing, so that candidate 0 wins. Raises CheckpointError."""


@dataclass(frozen=True)
class NoFiles:
    """A verifier that reads nothing and is computed from the seed alone (`random`), or none at all."""

    kind: str
    seed: int = 0
    reads: Reads = "nothing"
    block: int | None = None
    width: int | None = None
    sources: tuple[Source, ...] = ()

    def fetched(self, tokens: int | None) -> NoFiles:
        return self

    def load(self, device: str, dtype: str, micro_batch: int | None) -> Verifier | None:
        from vhs.verifiers.base import RandomVerifier

        return RandomVerifier(self.seed) if self.kind == "random" else None


def resolve_random(entry: Entry, config: RunConfig, offline: bool) -> NoFiles:
    """A baseline: the scores are random."""
    require_fields(entry, ())
    return NoFiles("random", config.seed)


def resolve_none(entry: Entry, config: RunConfig, offline: bool) -> NoFiles:
    """No verifier: the first candidate wins."""
    require_fields(entry, ())
    return NoFiles("none")


def resolve_verifier(config: RunConfig, offline: bool = False) -> VerifierSpec:
    """Which verifier a configuration means: a registry entry, keys of the configuration, or both (keys win).

    `offline` fetches nothing, not even a config.json. Raises ConfigError or CheckpointError.
    """
    if not config.latent_verifier:
        return NoFiles("none")
    if config.ensemble:
        return _ensemble(config, offline)
    return _resolve_entry(_entry(config), config, offline)


def resolve_by_name(name: str, config: RunConfig, offline: bool = False, alone: bool = True) -> VerifierSpec:
    """An entry of the registry beside the configuration's own verifier, whose paths it does not take over; `alone`: nor
    its statistics of hidden states."""
    own = dict.fromkeys(("latent_verifier_path", "vision_tower", "resize_vocabulary", "tokenizer_path", "lora_weights"))
    if alone:
        own |= dict.fromkeys(("normalization", "normalization_mean_path", "normalization_variance_path"))
    keys = config.model_copy(update={**own, "latent_verifier_name": name, "ensemble": None})
    return _resolve_entry(find_entry(name, config.registry), keys, offline)


def _ensemble(config: RunConfig, offline: bool) -> VerifierSpec:
    from vhs.verifiers.ensemble import EnsembleSpec, require_alike

    members = tuple(resolve_by_name(name, config, offline, alone=False) for name in config.ensemble)
    spec = EnsembleSpec(tuple(config.ensemble), members, config.ensemble_mean)
    require_alike(spec)
    return spec


def _resolve_entry(entry: Entry, config: RunConfig, offline: bool) -> VerifierSpec:
    kind = "class" if "class" in entry.values else entry.values.get("kind", "llava")
    if kind not in KINDS:
        raise ConfigError(f"{entry.where}: kind {kind!r}{nearest(str(kind), KINDS)}; one of {', '.join(KINDS)}")
    module, _, function = KINDS[kind].partition(":")
    return getattr(importlib.import_module(module), function)(entry, config, offline)


def _entry(config: RunConfig) -> Entry:
    """The registry's entry; with `latent_verifier_path` the name may be any, since it only names files then."""
    name, path = config.latent_verifier_name, config.latent_verifier_path
    if name is not None and (path is None or name in load_registry(config.registry)):
        return find_entry(name, config.registry)
    assert path is not None, "a configuration with a verifier names it"
    from pathlib import Path

    return Entry(name or path, Path("configuration"), {})


def require_fields(entry: Entry, fields: tuple[str, ...]) -> dict[str, Any]:
    """The entry's values but its kind. Raises ConfigError for a field that is not one of `fields`."""
    values = {field: value for field, value in entry.values.items() if field != "kind"}
    if unknown := sorted(set(values) - set(fields)):
        known = ", ".join(fields) or "none but kind"
        raise ConfigError(f"{entry.where}: unknown field {', '.join(unknown)}; known: {known}")
    return values
