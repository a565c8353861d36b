"""Weight files on disk: which there are, and whether they are whole. Reads headers, never tensors."""

from __future__ import annotations

import json
from pathlib import Path

from vhs.checkpoints.hub import DOWNLOAD
from vhs.errors import CheckpointError

PICKLES = (".bin", ".pt", ".pth", ".ckpt")


def weight_files(folder: Path, stem: str) -> list[Path]:
    """The safetensors files of `<stem>`: one, or the shards that `<stem>.safetensors.index.json` lists.

    Raises CheckpointError: nothing there, a shard missing, or only a pickle.
    """
    single, index = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
    if single.is_file():
        return [single]
    if index.is_file():
        return _shards(index)
    pickles = sorted(file.name for file in folder.glob("*") if file.suffix in PICKLES)
    if pickles:
        raise CheckpointError(
            f"{folder / pickles[0]}: is a pickle, which can run code when it is read; convert it to {single.name}"
        )
    raise CheckpointError(f"{single}: is missing; if the checkpoint is the Hub's, run: {DOWNLOAD}")


def check_safetensors(file: Path) -> None:
    """Raises CheckpointError unless `file` is a whole safetensors file: its header fits its length to the byte."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        start, opening = (
            stream.read(8),
            stream.read(1),
        )  # a safetensors header opens with a brace, whatever its length's bytes
        if opening != b"{" and (start[:2] == b"PK" or start[:1] == b"\x80"):
            raise CheckpointError(f"{file}: is a pickle under another name; safetensors is expected")
        if start.startswith(b"version "):
            raise CheckpointError(f"{file}: is a Git LFS pointer, not the weights; run: git lfs pull")
        length = int.from_bytes(start, "little")
        header = opening + stream.read(length - 1) if opening and 0 < length <= size - 8 else b""
    try:
        ends = [entry["data_offsets"][1] for name, entry in json.loads(header).items() if name != "__metadata__"]
        end = 8 + length + max(ends, default=0)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(f"{file}: truncated or corrupt (no readable header); download it again") from None
    if end != size:
        raise CheckpointError(f"{file}: truncated or corrupt ({size} bytes, its header says {end}); download it again")


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(f"{index}: is not a readable index of shards; download it again") from None
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing or not names:
        raise CheckpointError(f"{index}: shards missing: {', '.join(missing) or 'all'}; download them again")
    return [index.parent / name for name in names]
