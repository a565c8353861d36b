"""Weight files on disk: which there are, and whether they are whole. Reads headers, never tensors."""

from __future__ import annotations

import json
from pathlib import Path

from vhs.checkpoints.boundary import loading
from vhs.checkpoints.bounds import check_json_size
from vhs.checkpoints.hub import DOWNLOAD
from vhs.errors import CheckpointError, first_line

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
    """Raises CheckpointError unless `file` is a whole safetensors file: its header is one, and fits its length to the
    byte."""
    from safetensors import safe_open

    with loading("weight file", file):
        with file.open("rb") as stream:
            start, opening = stream.read(8), stream.read(1)
        # A safetensors header opens with a brace, whatever the bytes of its length before it.
        if opening != b"{" and (start[:2] == b"PK" or start[:1] == b"\x80"):
            raise CheckpointError(f"{file}: is a pickle under another name; safetensors is expected")
        if start.startswith(b"version "):
            raise CheckpointError(f"{file}: is a Git LFS pointer, not the weights; run: git lfs pull")
        try:
            with safe_open(file, "np"):
                pass
        except Exception as error:
            reason = first_line(error).removeprefix("Error while deserializing header: ")
            raise CheckpointError(f"{file}: truncated or corrupt ({reason}); download it again") from None


def _shards(index: Path) -> list[Path]:
    check_json_size(index)
    with loading("index of shards", index, "download it again"):
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        if escaping := [name for name in names if Path(name).name != name]:
            raise CheckpointError(f"{index}: {escaping[0]}: shards lie beside their index; download it again")
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing or not names:
        raise CheckpointError(f"{index}: shards missing: {', '.join(missing) or 'all'}; download them again")
    return [index.parent / name for name in names]
