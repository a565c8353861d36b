"""YAML files and `key=value` overrides into a typed configuration, with errors that name file, line and key.

Any pydantic model can be loaded this way: `load(RunConfig, "configs/tiny.yaml", ["seed=3"])`. A file starts from
another one with `base: other.yaml`, a path beside it: its own keys replace the base's, a list or a mapping as a whole.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from vhs.errors import ConfigError, first_line
from vhs.files import require_text
from vhs.paths import expanded, find

Model = TypeVar("Model", bound=BaseModel)

KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "list": "a list",
    "tuple": "a list",
}
BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "above"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "below"),
}


def load(model: type[Model], path: str | Path, overrides: Iterable[str] = ()) -> Model:
    """The configuration in `path`, over its `base`, under `key=value` overrides. Raises ConfigError in one line."""
    values, origins = read_values(path, overrides)
    return build(model, values, origins, str(path))


def read_values(path: str | Path, overrides: Iterable[str] = ()) -> tuple[dict[str, Any], dict[str, str]]:
    """The keys of a file over those of its `base`, under `key=value` overrides, and for each where it was given:
    `file:line` or "command line". A path is looked up as `vhs.paths.find` does. Raises ConfigError in one line."""
    values, origins = _with_base(find(path), ())
    for pair in overrides:
        key, value = parse_override(pair)
        values[key], origins[key] = value, "command line"
    for key, value in values.items():
        try:
            require_text(value)
        except ValueError as error:
            raise ConfigError(f"{origins[key]}: {ascii(key)[1:-1]}: {error}; whole characters are right") from None
    return values, origins


def build(
    model: type[Model],
    values: Mapping[str, Any],
    origins: Mapping[str, str] | None = None,
    source: str = "configuration",
) -> Model:
    """`model(**values)`; a mistake becomes a ConfigError that starts with the key's origin, or else `source`."""
    try:
        return model(**values)
    except ValidationError as error:
        problems = error.errors()
        line = _explain(problems[0], model, origins or {}, source)
        more = len(problems) - 1
        raise ConfigError(line + (f" ({more} more problem{'s' * (more > 1)} after this one)" if more else "")) from None


def read_yaml(path: str | Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The flat mapping in a YAML file, and for each key the `file:line` where it stands."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: not a text file ({error.reason} at byte {error.start}); a YAML file is needed"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); configurations are in configs/") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "context_mark", None) or getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or first_line(error)
        raise ConfigError(f"{where}: not valid YAML: {problem}; one 'key: value' a line is needed") from None
    except (ValueError, RecursionError) as error:  # a date that no calendar has, nested beyond any configuration
        raise ConfigError(f"{path}: not valid YAML: {error}; one 'key: value' a line is needed") from None
    if node is None:
        return {}, {}
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{path}:{node.start_mark.line + 1}: not a mapping; one 'key: value' a line is needed")
    return values, _key_lines(node, path)


def _with_base(path: Path, below: tuple[Path, ...]) -> tuple[dict[str, Any], dict[str, str]]:
    """`read_yaml` over the file's base; `below` are the files whose chain of bases led to this one."""
    values, origins = read_yaml(path)
    if "base" not in values:
        return values, origins
    name, where = values.pop("base"), origins.pop("base")
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{where}: base: {name!r} is not a path; a YAML file to start from is needed")
    base = path.parent / expanded(name)
    if not base.is_file():
        raise ConfigError(f"{where}: base: {name!r} is no file; a path beside {path.name} is needed")
    chain = (*below, path)
    if base.resolve() in {file.resolve() for file in chain}:
        names = " -> ".join(file.name for file in (*chain, base))
        raise ConfigError(f"{where}: base: {name!r} comes back to itself ({names}); remove one of these")
    inherited, places = _with_base(base, chain)
    return {**inherited, **values}, {**places, **origins}


def parse_override(pair: str) -> tuple[str, Any]:
    """`key=value` of the command line; the value is YAML, so that `true`, `0.5` and `[64, 64]` are what they seem."""
    key, equals, text = pair.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"command line: {pair!r} is not an override; write key=value, for example num_samples=16")
    try:
        return key.strip(), yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return key.strip(), text


def nearest(word: str, words: Iterable[str], cutoff: float = 0.6) -> str:
    """`; did you mean a, b?` for a wrong `word`, or nothing when no word is near."""
    lower = {w.lower(): w for w in words}
    found = difflib.get_close_matches(str(word).lower(), list(lower), n=3, cutoff=cutoff)
    return f"; did you mean {', '.join(lower[f] for f in found)}?" if found else ""


def combination_error(key: str, message: str) -> PydanticCustomError:
    """What a model's validator raises when `key` does not go with another key."""
    return PydanticCustomError("combination", "{message}", {"key": key, "message": message})


def _key_lines(node: yaml.MappingNode, path: str | Path) -> dict[str, str]:
    lines: dict[str, str] = {}
    for key, _ in node.value:
        where = f"{path}:{key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
            raise ConfigError(f"{where}: a key that is not a word; one 'key: value' a line is needed")
        if key.value in lines:
            raise ConfigError(
                f"{where}: {key.value}: given twice, first on line {lines[key.value].rpartition(':')[2]}; "
                "remove one of them"
            )
        lines[key.value] = where
    return lines


def _explain(problem: Mapping[str, Any], model: type[BaseModel], origins: Mapping[str, str], source: str) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    key = context["key"] if kind == "combination" else ".".join(str(p) for p in problem["loc"][:1])
    head = f"{origins.get(key, source)}: {key}: "
    value = problem["input"]
    if kind == "combination":
        return head + context["message"]
    if kind == "extra_forbidden":
        return (
            head
            + "unknown key"
            + (nearest(key, model.model_fields) or "; the keys are listed in docs/configuration.md")
        )
    if len(problem["loc"]) > 1 and kind in ("missing", "too_long"):
        return head + "has too few or too many values; " + (model.model_fields[key].description or "")
    if kind == "missing":
        return head + "missing; this key has no default"
    if kind == "literal_error":
        choices = context["expected"].replace("'", "")
        return (
            head
            + f"{value!r} is not a choice; one of {choices}"
            + nearest(value, choices.replace(" or ", ", ").split(", "))
        )
    if kind in BOUNDS:
        bound, words = BOUNDS[kind]
        return head + f"{value!r} is out of range; {words} {context[bound]} is needed"
    needed = (model.model_fields[key].json_schema_extra or {}).get("needed") if key in model.model_fields else None
    if needed and kind == "string_pattern_mismatch":
        return head + f"{value!r} is not allowed; {needed} is needed"
    if kind == "string_too_short":
        return head + "is empty; a text is needed"
    expected = KINDS.get(kind.split("_")[0])
    if expected and kind.endswith(("_type", "_parsing", "_from_float")):
        hint = " (put it in quotes)" if expected == "text" and isinstance(value, (int, float)) else ""
        return head + f"{value!r} is of the wrong type; {expected} is needed{hint}"
    return head + f"{value!r}: {problem['msg'].removeprefix('Value error, ')}"
