"""Judges of a user's own: any class with `judge_batch`, named in a registry entry as `module:Class`."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vhs.checkpoints.source import Source
from vhs.config.run import RunConfig
from vhs.errors import ConfigError, RunError
from vhs.judges.base import Judgement, Marks, Measures, Record, category
from vhs.verifiers.own import RUN_KEYS, check_arguments, load_class
from vhs.verifiers.registry import Entry
from vhs.verifiers.spec import require_fields

if TYPE_CHECKING:
    from PIL.Image import Image


class OwnJudge:
    """A user's object as a `base.Judge`: a number becomes `Marks`."""

    def __init__(self, inner: Any, name: str) -> None:
        self.inner, self.name = inner, name

    def judge_batch(self, images: Sequence[Image], records: Sequence[Record]) -> list[Judgement]:
        """One judgement per picture. Raises RunError where the user's class returns anything else."""
        found = list(self.inner.judge_batch(images, records))
        if len(found) != len(images):
            raise RunError(f"{self.name}: judge_batch returned {len(found)} judgements for {len(images)} pictures")
        return [self._judgement(one) for one in found]

    def _judgement(self, one: Any) -> Judgement:
        if not hasattr(one, "fields"):
            one = one.item() if hasattr(one, "item") else one
            if isinstance(one, str) or not isinstance(one, (int, float)):
                raise RunError(f"{self.name}: judge_batch returned {one!r} for a picture; a number or Marks is right")
            one = Marks(float(one))
        if not math.isfinite(one.fields().get("score", math.nan)):
            raise RunError(f"{self.name}: a judgement's score is {one.fields().get('score')}; a finite number is right")
        return one


@dataclass(frozen=True)
class OwnJudgeSpec:
    """A class of a user's own, and what it is made with."""

    name: str
    found: type
    reference: str
    kwargs: Mapping[str, Any]
    file: Source
    run: Mapping[str, Any]

    @property
    def sources(self) -> tuple[Source, ...]:
        """The class's file, whose content judgements depend on."""
        return (self.file,)

    @property
    def downloads(self) -> tuple[Source, ...]:
        return ()

    def judges(self, record: Record) -> bool:
        return True

    def check(self, record: Record, where: str) -> None:
        """Nothing is known of what it cannot judge."""

    def fetched(self) -> OwnJudgeSpec:
        return self

    def describe(self) -> dict[str, Any]:
        plain = (str, int, float, bool)
        kwargs = {key: one if isinstance(one, plain) else repr(one) for key, one in self.kwargs.items()}
        return {"class": self.reference, "kwargs": kwargs}

    def load(self) -> OwnJudge:
        named = inspect.signature(self.found).parameters
        given = {key: value for key, value in self.run.items() if key in named}
        return OwnJudge(self.found(**{**given, **self.kwargs}), self.name)

    def measures(self, record: Record, fields: Mapping[str, Any]) -> Measures:
        return {"score": [(category(record), fields["score"])]}


def resolve_class(entry: Entry, config: RunConfig, device: str, dtype: str) -> OwnJudgeSpec:
    """Fields: class, `module:Class` beside the registry's file or of an installed package; kwargs."""
    values = require_fields(entry, ("class", "kwargs"))
    reference, kwargs = values["class"], values.get("kwargs", {})
    if not isinstance(reference, str) or not isinstance(kwargs, Mapping):
        raise ConfigError(f"{entry.where}: class is 'module:Class' and kwargs a dict of its arguments")
    found = load_class(reference, entry.file.parent, entry.where, _check_class)
    check_arguments(found, kwargs, entry.where)
    file = Source(f"judge {entry.name}", reference, Path(inspect.getfile(found)))
    run = dict(zip(RUN_KEYS, (device, dtype, config.at_once), strict=True))
    return OwnJudgeSpec(entry.name, found, reference, kwargs, file, run)


def _check_class(found: type, where: str) -> None:
    if not callable(getattr(found, "judge_batch", None)):
        raise ConfigError(f"{where}: {found.__name__} lacks judge_batch(images, records)")
