"""What a set of candidates is: K of each of some prompts, which features they have, in which shards they are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pydantic import TypeAdapter, ValidationError

from vhs.errors import ConfigError
from vhs.files import read_json_object
from vhs.generators.base import one_or_all
from vhs.records import Prompt
from vhs.training.data.features import STORED
from vhs.verifiers.feature_names import blocks_in, hidden, single_features

FORMAT = 1
LARGEST = 2**40


@dataclass(frozen=True)
class Layout:
    """What a collected set holds. `features` maps a name (`hidden_7`, `latent`, `clip`) to one sample's shape.

    `settings` is everything else that decides the values; a set is only continued under the same. `content` among them
    has the hash of every model that was read.
    """

    features: Mapping[str, Sequence[int]]
    dtype: str
    prompts: int
    candidates: int
    prompts_per_shard: int
    pictures: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    PIPELINE: ClassVar[str] = "SanaSprintPipeline"
    """The generator of a set that names none."""

    def generator_record(self, feature: str) -> dict[str, Any]:
        """What a verifier trained on `feature` says of its generator, as `GeneratorInfo.record` has it."""
        settings, at = self.settings, {}
        if blocks := blocks_in(feature):
            tokens, width = self.features[hidden(blocks[:1])]
            usual = {hidden([block]): f"transformer_blocks.{block}" for block in blocks}
            paths = ({**usual, **settings.get("block_paths", {})}[name] for name in usual)
            at = {"block": one_or_all(paths), "tokens": tokens, "width": width}
        steps = settings.get("num_inference_steps", 1)
        of = {"pipeline": settings.get("pipeline", self.PIPELINE), "ckpt": settings.get("ckpt")}
        return {**of, **at, "step": settings.get("hidden_step") or steps, "steps": steps}

    def shape(self, feature: str, where: str) -> tuple[int, ...]:
        """One sample's shape, of several blocks side by side (tokens, their widths together). Raises ConfigError,
        naming what there is, for a feature that is not there, and for blocks of different shapes."""
        names = single_features(feature)
        for name in names:
            if name not in self.features:
                raise ConfigError(f"{where}: no feature {name!r}; there is {', '.join(self.features) or 'none'}")
        shapes = [tuple(self.features[name]) for name in names]
        if len(set(shapes)) > 1:
            found = ", ".join(f"{name} is {shape}" for name, shape in zip(names, shapes, strict=True))
            raise ConfigError(f"{where}: {found}; blocks of one shape can be read side by side")
        return shapes[0] if len(names) == 1 else (shapes[0][0], sum(width for _, width in shapes))

    @property
    def samples(self) -> int:
        return self.prompts * self.candidates

    @property
    def shards(self) -> int:
        return -(-self.prompts // self.prompts_per_shard)

    def prompts_of(self, shard: int) -> range:
        """Positions of the prompts whose samples are in `shard`."""
        start = shard * self.prompts_per_shard
        return range(start, min(start + self.prompts_per_shard, self.prompts))


class CandidateSet:
    """Candidates by number: sample i is candidate i % K of prompt i // K. `where` is what messages call the set."""

    def __init__(self, layout: Layout, prompts: Sequence[Prompt], where: str) -> None:
        self.layout, self.prompts, self.where = layout, prompts, where
        self.own: dict[str, str] = {}
        """Files of labels and captions by key, where the set has its own (a GeneratedSet may)."""

    def __len__(self) -> int:
        return self.layout.samples

    def name(self, index: int) -> str:
        """What messages call a sample."""
        return f"{self.where}: prompt {self.prompt(index).id:05d} candidate {index % self.layout.candidates}"

    def prompt(self, index: int) -> Prompt:
        """The prompt that sample `index` was made from."""
        return self.prompts[index // self.layout.candidates]

    def require(self, feature: str) -> tuple[int, ...]:
        """One sample's shape. Raises ConfigError, naming what there is, for a feature that is not there."""
        return self.layout.shape(feature, self.where)

    def shard_of(self, index: int) -> int:
        """The shard that a sample is in."""
        return self._row(index)[0]

    def _row(self, index: int) -> tuple[int, int]:
        """Its shard, and its row there."""
        return divmod(index, self.layout.prompts_per_shard * self.layout.candidates)


def read_index(folder: Path) -> dict[str, Any]:
    """index.json as written. Raises ConfigError when it is not there or not one."""
    path = folder / "index.json"
    index = read_json_object(path, ConfigError, "a folder that collect.py finished is needed")
    if index.get("format") != FORMAT:
        raise ConfigError(f"{path}: not an index of format {FORMAT}; collect the set again with this version")
    return index


def read_layout(folder: Path) -> Layout:
    """What index.json says. Raises ConfigError, naming the file and the key, for what is no index."""
    path = folder / "index.json"
    try:
        text = json.dumps(read_index(folder))  # as Python values an object would have to be a Layout already
        layout = TypeAdapter(Layout).validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{path}: {key}: {first['msg']}; collect the set again") from None
    sizes = {key: getattr(layout, key) for key in ("prompts", "candidates", "prompts_per_shard")}
    sizes |= {name: size for name, shape in layout.features.items() for size in shape}
    for key, size in sizes.items():
        if not 0 < size <= LARGEST:
            raise ConfigError(f"{path}: {key} is {size}; no set has that; collect the set again")
    for name, shape in layout.features.items():
        dimensions = 3 if name == "latent" else 2
        if len(shape) != dimensions:
            raise ConfigError(
                f"{path}: {name} has a shape of {len(shape)} sizes, not {dimensions}; collect the set again"
            )
    if layout.dtype not in STORED:
        raise ConfigError(f"{path}: dtype is {layout.dtype!r}; one of {', '.join(STORED)} is needed")
    return layout
