"""Which judges a configuration means, before any is loaded.

KINDS maps a registry entry's `kind` to what resolves it. A judge of your own is an entry with `class`; adding a kind is
one line here and one function: it is given the entry, the run's configuration, a device and a precision, and returns a
`JudgeSpec`. See docs/judges.md.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import replace

from vhs.config.run import RunConfig
from vhs.config.yamlfile import nearest
from vhs.errors import ConfigError
from vhs.judges.base import JudgeSpec
from vhs.verifiers.registry import JUDGES, Entry, load_registry
from vhs.verifiers.spec import require_fields

KINDS = {
    "geneval": "vhs.judges.spec:resolve_geneval",
    "soft_tifa": "vhs.judges.vlm_spec:resolve_soft_tifa",
    "vqa_score": "vhs.judges.vlm_spec:resolve_vqa_score",
    "geometry": "vhs.tinyworld.geometry_judge:resolve_geometry",
    "class": "vhs.judges.own:resolve_class",
}
NONE = "none"


def resolve_judges(config: RunConfig, device: str, dtype: str) -> tuple[JudgeSpec, ...]:
    """The judges that `judge` names. Raises ConfigError or CheckpointError for what is unknown or lacks its keys."""
    names = judge_names(config)
    entries = load_registry(config.registry, JUDGES)
    for name in names:
        if name not in entries:
            near = nearest(name, [*entries, NONE]) or f"; there are {', '.join([*entries, NONE])}"
            raise ConfigError(f"judge: no judge {name!r}{near}")
    return tuple(_resolve(entries[name], config, device, dtype) for name in names)


def judge_names(config: RunConfig) -> Sequence[str]:
    """What `judge` names, each once; GenEval where it is absent."""
    given = ["geneval"] if config.judge is None else [config.judge] if isinstance(config.judge, str) else config.judge
    if NONE in given and len(given) > 1:
        raise ConfigError(f"judge: {NONE} stands alone, here with {', '.join(n for n in given if n != NONE)}")
    return [] if NONE in given else list(dict.fromkeys(given))


def resolve_geneval(entry: Entry, config: RunConfig, device: str, dtype: str) -> JudgeSpec:
    """GenEval with the configuration's detector; no fields."""
    from vhs.geneval.spec import resolve_judge

    require_fields(entry, ())
    if config.segmentation_ckpt_path is None:
        raise ConfigError(f"judge: {entry.name} needs a detector; give segmentation_ckpt_path (docs/geneval.md)")
    return replace(resolve_judge(config, device), name=entry.name)


def _resolve(entry: Entry, config: RunConfig, device: str, dtype: str) -> JudgeSpec:
    kind = "class" if "class" in entry.values else entry.values.get("kind")
    if kind not in KINDS:
        raise ConfigError(f"{entry.where}: kind {kind!r}{nearest(str(kind), KINDS)}; one of {', '.join(KINDS)}")
    module, _, function = KINDS[kind].partition(":")
    return getattr(importlib.import_module(module), function)(entry, config, device, dtype)
