"""Sizes in a checkpoint's JSON files, held against what any model has: before anything is allocated or built."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vhs.errors import CheckpointError
from vhs.files import read_json_object

LARGEST_CONFIG = 16_000_000
LARGEST_JSON = 256_000_000
"""Bytes of a configuration, and of any other JSON file such as a tokenizer's."""
LIMITS = (
    (r"(.*_)?(layers?|blocks|depths?|layers_per_block)", 1_000),
    (r"(.*_)?(image|sample|patch|crop)_size|shortest_edge|height|width_px", 8_192),
    (r"(.*_)?vocab_size", 4_000_000),
    (r"max_position_embeddings", 16_777_216),
    (
        r"(.*_)?(size|sizes|dim|dims|width|channels|heads|groups|queries|labels|experts|features|length|rank|r|scales)",
        1_048_576,
    ),
)
"""Keys (the first pattern that fits) -> the largest value that is taken for a size and not for damage."""
DEEPEST = 50


def read_config(file: Path, remedy: str = "download the checkpoint again") -> dict[str, Any]:
    """A checkpoint's JSON object, such as config.json. Raises CheckpointError, naming the file, where it cannot be
    read or a size in it is beyond any model's."""
    check_json_size(file, LARGEST_CONFIG)
    values = read_json_object(file, CheckpointError, remedy)
    check_sizes(file, values)
    return values


def check_sizes(file: Path, values: Mapping[str, Any]) -> None:
    """Raises CheckpointError for a number in `values`, at any depth, that is beyond its key's limit."""
    for key, value in _numbers(file, values, "", 0):
        limit = next((limit for pattern, limit in LIMITS if re.fullmatch(pattern, key)), None)
        if limit is not None and not -limit <= value <= limit:
            raise CheckpointError(f"{file}: {key} is {_shown(value)}; no model has more than {limit:,}")


def check_json_size(file: Path, largest: int = LARGEST_JSON) -> None:
    """Raises CheckpointError for a file that is too large to be what it is named for; one that is missing passes."""
    if file.is_file() and (size := file.stat().st_size) > largest:
        raise CheckpointError(f"{file}: has {size:,} bytes; such a file has at most {largest:,}")


def check_tokenizer_sizes(folder: Path) -> None:
    """`check_json_size` of every JSON and text file of a tokenizer's folder."""
    for pattern in ("*.json", "*.txt", "*.jinja"):
        for file in folder.glob(pattern):
            check_json_size(file)


def _numbers(file: Path, value: Any, key: str, depth: int) -> Iterator[tuple[str, float]]:
    if depth > DEEPEST:
        raise CheckpointError(f"{file}: is nested deeper than {DEEPEST} levels; such a file is not")
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _numbers(file, inner, name, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _numbers(file, inner, key, depth + 1)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield key, value


def _shown(value: float) -> str:
    return f"{value:,}" if isinstance(value, float) or abs(value) < 10**18 else "a number of more than 18 digits"
