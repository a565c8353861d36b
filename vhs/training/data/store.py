"""A collected set on disk: every candidate's features, sharded, with an index that says what must be there.

    index.json                     what is stored: features and their shapes, candidates per prompt, shards, settings
    prompts.jsonl                  {"id", "prompt", "metadata"} per line; sample i is candidate i % K of prompt i // K
    shards/shard_00000.safetensors the samples of `prompts_per_shard` prompts: one tensor (n, ...) per feature, `prompt`
                                   and `candidate` (n,); pictures as the bytes of their files, back to back

The index is written first and a shard appears whole, so what is missing is always known.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vhs.checkpoints.hashes import file_hash, sampled_hash
from vhs.errors import ConfigError, RunError, first_line
from vhs.files import parse_json, write_bytes, write_json
from vhs.folders import Kind, Opening, decide, drop_drafts, move_aside, remove_replaced
from vhs.pictures import decode
from vhs.records import Prompt
from vhs.training.data.features import LARGEST, SCALE, STORED, read, read_dtype, require_finite
from vhs.training.data.layout import CandidateSet, Layout, read_layout
from vhs.training.data.shards import ShardCache, Tensors, is_remote, place, read_mapped, read_whole
from vhs.verifiers.feature_names import single_features

if TYPE_CHECKING:
    from PIL.Image import Image

PICTURE, OFFSETS = "picture_bytes", "picture_offsets"
REMOTE_SHARDS = 2
"""Shards of a store that are kept, where samples are read in their order."""


def shard_path(folder: Path, shard: int) -> Path:
    return folder / "shards" / f"shard_{shard:05d}.safetensors"


SET = Kind(
    "set",
    "index.json",
    ("prompts.jsonl", "shards", ".prompts.jsonl.tmp"),
    "choose another output folder",
    "overwrite=true",
)
"""What collect.py writes into a folder; labels and captions beside it are others'."""
DRAFTS = (".shard_*.tmp", ".tmp??????")
"""What an interruption leaves among the shards: ours, and what safetensors gives ours its bytes in."""


def missing_shards(folder: Path, layout: Layout) -> list[int]:
    """The shards that are still to be made."""
    shards = folder / "shards"
    there = {path.name for path in shards.iterdir()} if shards.is_dir() else set()  # a store is asked once, not often
    return [shard for shard in range(layout.shards) if shard_path(folder, shard).name not in there]


def decide_set(folder: Path, layout: Layout, prompts: Sequence[Prompt], overwrite: bool = False) -> Opening:
    """What becomes of a folder that this set is to be written to, by the table of `vhs.folders`. Raises RunError,
    naming the difference, where it holds a set made with other settings."""

    def left() -> str | None:
        missing = missing_shards(folder, layout)
        return f"{len(missing)} of {layout.shards} shards are missing" if missing else None

    former = _as_json(read_layout(folder)) if (folder / "index.json").exists() else None
    # a generator: nothing is compared where there is no former set, or it will be replaced
    differences = _differences(folder, former, layout, prompts)
    return decide(folder, SET, former, differences, left, overwrite=overwrite)


def open_set(opening: Opening, folder: Path, layout: Layout, prompts: Sequence[Prompt]) -> None:
    """Makes the folder ready, index.json first. For one process, before the others write."""
    if opening == "replace":
        move_aside(folder)
    if opening in ("start", "replace"):
        write_json(folder / "index.json", _as_json(layout))
    if not (folder / "prompts.jsonl").exists():
        write_bytes(folder / "prompts.jsonl", _prompt_lines(prompts).encode())
    drop_drafts(folder, "index.json", "prompts.jsonl")
    for pattern in DRAFTS:
        for draft in (folder / "shards").glob(pattern):
            draft.unlink()


def close_set(folder: Path) -> None:
    """Deletes the set that a finished one has replaced."""
    remove_replaced(folder, SET)


def begin(folder: Path, layout: Layout, prompts: Sequence[Prompt]) -> list[int]:
    """Starts or continues a set, in one process, and returns the shards still to be made."""
    open_set(decide_set(folder, layout, prompts), folder, layout, prompts)
    return missing_shards(folder, layout)


def _as_json(layout: Layout) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(layout)))


def _prompt_lines(prompts: Sequence[Prompt]) -> str:
    return "".join(json.dumps({"id": p.id, "prompt": p.text, "metadata": p.metadata}) + "\n" for p in prompts)


def _differences(folder: Path, old: dict, layout: Layout, prompts: Sequence[Prompt]) -> Iterator[str]:
    """What a set in the folder has otherwise than this one, as `key: old, now new`."""
    new = _as_json(layout)
    settings = old.pop("settings"), new.pop("settings")
    contents = [side.pop("content", None) for side in settings]
    contents = [side if isinstance(side, dict) else {} for side in contents]
    for was, now in ((old, new), settings):
        for key in sorted(was.keys() | now.keys()):
            if was.get(key) != now.get(key):
                yield f"{key}: {was.get(key)!r}, now {now.get(key)!r}"
    for key in sorted(contents[0].keys() & contents[1].keys()):
        if contents[0][key] != contents[1][key]:
            yield f"{key} has other content than before"
    file = folder / "prompts.jsonl"
    if file.exists() and not (file.is_file() and file.read_bytes() == _prompt_lines(prompts).encode()):
        yield "it is of other prompts"


def write_shard(folder: Path, shard: int, tensors: Mapping[str, torch.Tensor], pictures: Sequence[bytes] = ()) -> Path:
    """Writes one shard, whole or not at all; `pictures` are files, one a sample. Raises RunError on a full disk."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    if pictures:
        tensors[PICTURE] = torch.frombuffer(bytearray(b"".join(pictures)), dtype=torch.uint8)
        tensors[OFFSETS] = torch.tensor([0, *map(len, pictures)]).cumsum(0)
    path = shard_path(folder, shard)
    draft = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(exist_ok=True)
        save_file(tensors, draft)
        shutil.copymode(folder / "index.json", draft)  # safetensors writes for its owner alone
        os.replace(draft, path)
    except (OSError, SafetensorError) as error:
        draft.unlink(missing_ok=True)
        raise RunError(f"{path}: cannot be written ({error}); the shards before it are kept") from None
    return path


def _shard_hash(path: Path) -> str:
    """A hash of a shard's content; in a store what the store says of it: its size with its ETag or time."""
    return f"{path.fs.checksum(path.path)}" if is_remote(path) else sampled_hash(path)


class CollectedSet(CandidateSet):
    """A finished set, in a folder here or by its URL in a store. Opening one takes no time, samples are read when they
    are asked for, through memory maps (of a store's shards: see `cache`).

    Raises ConfigError when a shard that the index lists is missing or cannot be read.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = place(folder)
        layout = read_layout(self.folder)
        super().__init__(layout, _read_prompts(self.folder, layout), str(self.folder))
        if missing := missing_shards(self.folder, layout):
            raise ConfigError(
                f"{self.folder}/index.json: {len(missing)} of {self.layout.shards} shards are missing, first "
                f"{shard_path(self.folder, missing[0]).name}; finish collect.py with the same configuration"
            )
        self._maps: dict[int, Tensors] = {}
        self.cache = ShardCache(REMOTE_SHARDS) if is_remote(self.folder) else None
        """Shards that are read whole; None: through memory maps."""
        self._map(0)  # its sizes are the index's, before anything as long as that says is gone through

    def fingerprint(self) -> str:
        """A hash of the set's content: its index, its prompts and its shards, of large ones at some places."""
        digest = hashlib.sha256()
        for file in (self.folder / "index.json", self.folder / "prompts.jsonl"):
            digest.update(file_hash(file).encode())
        for shard in range(self.layout.shards):
            digest.update(_shard_hash(shard_path(self.folder, shard)).encode())
        return digest.hexdigest()

    def gather(self, feature: str, indices: Sequence[int]) -> torch.Tensor:
        """Features (B, ...) of the samples, in their stored dtype (float32 of those in 8 bits), as a copy in memory;
        several blocks stand side by side. Raises ConfigError, naming the sample, for one that is not finite."""
        out = torch.empty((len(indices), *self.require(feature)), dtype=read_dtype(self.layout.dtype))
        names = single_features(feature)
        parts = out.chunk(len(names), dim=-1)
        for position, index in enumerate(indices):
            shard, row = self._row(index)
            for name, part in zip(names, parts, strict=True):
                part[position] = read(self._map(shard), name, row)
        require_finite(out, feature, lambda row: self.name(indices[row]), "collect this set again")
        return out

    def picture(self, index: int) -> Image:
        """The picture of a sample, RGB. Raises ConfigError when none were collected."""
        if not self.layout.pictures:
            raise ConfigError(f"{self.folder}: no pictures; collect again with pictures: png")
        shard, row = self._row(index)
        tensors = self._map(shard)
        start, end = tensors[OFFSETS][row : row + 2].tolist()
        return decode(tensors[PICTURE][start:end].numpy().tobytes(), self.name(index))

    def expect(self, shard: int) -> None:
        """Begins to read a shard that is read whole."""
        if self.cache is not None:
            self.cache.expect((self.folder, shard), partial(self._read, shard))

    def _map(self, shard: int) -> Tensors:
        if self.cache is not None:
            return self.cache.get((self.folder, shard), partial(self._read, shard))
        if shard not in self._maps:
            self._maps[shard] = self._read(shard)
        return self._maps[shard]

    def _read(self, shard: int) -> Tensors:
        from safetensors import SafetensorError

        path = shard_path(self.folder, shard)
        try:
            tensors = read_mapped(path) if self.cache is None else read_whole(path)
        except (SafetensorError, OSError) as error:
            raise ConfigError(
                f"{path}: truncated or corrupt ({first_line(error)}); remove it and run collect.py again"
            ) from None
        self._check_shard(path, shard, tensors)
        return tensors

    def _check_shard(self, path: Path, shard: int, tensors: Mapping[str, torch.Tensor]) -> None:
        """Raises ConfigError for a shard that is not this one: other shapes, or the samples of other prompts."""
        layout, remedy = self.layout, "remove it and run collect.py again"
        positions = layout.prompts_of(shard)
        rows = len(positions) * layout.candidates
        for name, shape in layout.features.items():
            found = tensors.get(name)
            if found is None or len(found) != rows:
                raise ConfigError(f"{path}: {rows} samples of {name} are needed; {remedy}")
            if tuple(found.shape[1:]) != tuple(shape):
                raise ConfigError(
                    f"{path}: {name} is {tuple(found.shape[1:])}, the index says {tuple(shape)}; {remedy}"
                )
            if found.dtype != STORED[layout.dtype] or (layout.dtype in LARGEST and not _scales(tensors, name, rows)):
                raise ConfigError(f"{path}: {name} is not in {layout.dtype}, which the index says; {remedy}")
        if layout.pictures and not _whole_pictures(tensors, rows):
            raise ConfigError(f"{path}: {rows} pictures are needed; {remedy}")
        ids = torch.tensor([self.prompts[p].id for p in positions]).repeat_interleave(layout.candidates)
        if "prompt" in tensors and not torch.equal(tensors["prompt"], ids):
            raise ConfigError(f"{path}: has the samples of other prompts than the index says; {remedy}")


def _scales(tensors: Mapping[str, torch.Tensor], name: str, rows: int) -> bool:
    """A feature in 8 bits has a scale for each of its samples."""
    found = tensors.get(name + SCALE)
    return found is not None and found.dtype == torch.float32 and found.ndim > 1 and len(found) == rows


def _whole_pictures(tensors: Mapping[str, torch.Tensor], rows: int) -> bool:
    """The bytes of so many picture files are there, and where each begins and ends."""
    data, ends = tensors.get(PICTURE), tensors.get(OFFSETS)
    if data is None or ends is None or data.dtype != torch.uint8 or ends.dtype != torch.int64:
        return False
    if data.ndim != 1 or ends.shape != (rows + 1,):
        return False
    return bool(ends[0] == 0 and ends[-1] == len(data) and (ends.diff() >= 0).all())


def _is_text(value: Any) -> bool:
    """A text that can be written, without halves of characters."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def _read_prompts(folder: Path, layout: Layout) -> list[Prompt]:
    path = folder / "prompts.jsonl"
    try:
        rows = [parse_json(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        prompts = [Prompt(row["id"], row["prompt"], row["metadata"]) for row in rows]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); collect the set again") from None
    if len(rows) != layout.prompts:
        raise ConfigError(f"{path}: {len(rows)} prompts, the index says {layout.prompts}; collect the set again")
    for number, prompt in enumerate(prompts, 1):
        known = type(prompt.id) is int and 0 <= prompt.id < 2**63  # true is an int too
        if not (known and _is_text(prompt.text)):
            raise ConfigError(
                f"{path}: line {number}: id is a number and prompt a text; got {str(prompt.id)[:40]!r} and "
                f"{str(prompt.text)[:40]!r}; collect the set again"
            )
        if not isinstance(prompt.metadata, (dict, type(None))):
            raise ConfigError(f"{path}: line {number}: metadata is no object; collect the set again")
        tag = (prompt.metadata or {}).get("tag")
        if not isinstance(tag, (str, type(None))):
            raise ConfigError(f"{path}: line {number}: tag is {str(tag)[:40]!r}, no text; collect the set again")
    return prompts
