"""Verifiers of a user's own: any class with `score` or `compare`, named in a registry entry as `module:Class`.

The module is looked for beside the registry's file first, then among installed packages. See docs/verifiers.md.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vhs.errors import ConfigError, RunError, first_line
from vhs.records import Score
from vhs.verifiers.base import Reads

READS = ("hidden", "latent", "image", "nothing")
RUN_KEYS = ("device", "dtype", "micro_batch")
"""Arguments that a class gets from the run where its constructor has them and the entry does not give them."""


def load_class(reference: str, folder: Path, where: str, check: Callable[[type, str], None] | None = None) -> type:
    """The class `package.module:Class`, with `folder` importable. `where` begins the messages.

    Raises ConfigError where it cannot be imported, or fails `check(class, where)`; without one: where it has neither
    `score` nor `compare`, or a wrong `reads`.
    """
    module_name, colon, name = reference.partition(":")
    if not (module_name and colon and name.isidentifier()):
        raise ConfigError(f"{where}: class {reference!r}; package.module:Class is right")
    module = _import(module_name, folder, f"{where}: class {reference!r}")
    found = getattr(module, name, None)
    if not inspect.isclass(found):
        classes = ", ".join(n for n, one in vars(module).items() if inspect.isclass(one)) or "none"
        raise ConfigError(f"{where}: {module.__file__} has no class {name}; its classes: {classes}")
    (check or _check_class)(found, where)
    return found


def check_arguments(found: type, kwargs: Mapping[str, Any], where: str) -> None:
    """Raises ConfigError where the constructor does not take `kwargs` and what it gets from the run."""
    signature = inspect.signature(found)
    try:
        signature.bind(**{**{key: None for key in RUN_KEYS if key in signature.parameters}, **kwargs})
    except TypeError as error:
        raise ConfigError(f"{where}: {found.__name__}{signature}: kwargs do not fit ({error})") from None


class OwnVerifier:
    """A user's object as a `base.Verifier`: what its `score` returns is checked and becomes a `Score`.

    It gets `micro_batch` candidates at once (None: all), and always all of a prompt where its `batch` is "all".
    `compare` is None, or says of two candidates of a prompt whether the first is better; `scores`: it has `score`.
    """

    def __init__(self, inner: Any, name: str, micro_batch: int | None = None) -> None:
        self.inner, self.name = inner, name
        self.reads: Reads = inner.reads
        self.blocks = read_blocks(inner)
        self.block: int | None = self.blocks[-1] if self.blocks else None
        self.width: int | None = getattr(inner, "width", None)
        whole = getattr(inner, "batch", "any") == "all"
        self.micro_batch = None if whole else micro_batch
        self.compare = getattr(inner, "compare", None)
        self.scores = hasattr(inner, "score")

    def score(self, prompt: str, features: Any) -> Score:
        """Scores of N candidates. Raises RunError where the user's `score` returns anything but N numbers."""
        if isinstance(features, int):
            return checked_score(self.inner.score(prompt, features), features, self.name)
        step = self.micro_batch or len(features)
        parts = (features[start : start + step] for start in range(0, len(features), step))
        return Score.cat([checked_score(self.inner.score(prompt, part), len(part), self.name) for part in parts])


def read_blocks(found: Any) -> tuple[int, ...]:
    """The blocks that a user's class reads side by side: its `blocks`, or its one `block`; () where it says none."""
    block = getattr(found, "block", None)
    return tuple(getattr(found, "blocks", () if block is None else (block,)))


def build(found: type, kwargs: Mapping[str, Any], run: Mapping[str, Any], name: str) -> OwnVerifier:
    """The user's object, made from `kwargs` and what its constructor names of `run` (device, dtype, micro_batch)."""
    named = inspect.signature(found).parameters
    given = {key: value for key, value in run.items() if key in RUN_KEYS and key in named}
    return OwnVerifier(found(**{**given, **kwargs}), name, run.get("micro_batch"))


def checked_score(returned: Any, count: int, name: str) -> Score:
    """What a user's `score` returned (a Score, or N numbers in a list, array or tensor) as a Score of N candidates.

    Raises RunError for another number of scores, or what is no number.
    """
    if isinstance(returned, Score):
        columns = (returned.p_yes, returned.p_no, returned.correct, returned.score)
        for column in columns:
            if column is not None and len(column) != count:
                raise RunError(f"{name}: score returned {_many(len(column), 'score')} for {_many(count, 'candidate')}")
        return returned
    values = returned.tolist() if hasattr(returned, "tolist") else returned
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise RunError(f"{name}: score returned {type(returned).__name__}; a list of {count} numbers is right")
    if len(values) != count:
        raise RunError(f"{name}: score returned {_many(len(values), 'score')} for {_many(count, 'candidate')}")
    numbers = []
    for index, value in enumerate(values):
        value = value.item() if hasattr(value, "item") else value
        if isinstance(value, str) or not isinstance(value, (int, float)):
            raise RunError(f"{name}: candidate {index}: score is {value!r}; a number is right")
        numbers.append(float(value))
    return Score.plain(numbers)


def _import(name: str, folder: Path, what: str) -> Any:
    """The module, a file beside the registry winning over a package of the same name."""
    sys.path.insert(0, str(folder))
    own = folder / f"{name.replace('.', '/')}.py"
    if own.is_file() and getattr(sys.modules.get(name), "__file__", str(own)) != str(own):
        del sys.modules[name]
    try:
        return importlib.import_module(name)
    except Exception as error:  # whatever the user's own Python raises
        raise ConfigError(f"{what}: cannot be imported ({type(error).__name__}: {first_line(error)})") from None
    finally:
        sys.path.remove(str(folder))


def _check_class(found: type, where: str) -> None:
    if not (callable(getattr(found, "score", None)) or callable(getattr(found, "compare", None))):
        raise ConfigError(f"{where}: {found.__name__} lacks score(prompt, features); or compare(prompt, a, b)")
    reads = getattr(found, "reads", None)
    if reads not in READS:
        raise ConfigError(f"{where}: {found.__name__}.reads is {reads!r}; one of {', '.join(map(repr, READS))}")
    if reads == "hidden" and not (read_blocks(found) and all(isinstance(one, int) for one in read_blocks(found))):
        raise ConfigError(f"{where}: {found.__name__}.block is missing; the number of the block whose output it reads")
    if getattr(found, "batch", "any") not in ("any", "all"):
        raise ConfigError(f"{where}: {found.__name__}.batch is {found.batch!r}; 'all', or leave it out")


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
