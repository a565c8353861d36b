"""Everything that a run reads from the Hub: how large it is, whether it is here, fetched and verified."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from vhs.checkpoints.fetch import Asset, HubFile, Say, cached, fetch, list_files
from vhs.checkpoints.source import Source
from vhs.errors import CheckpointError
from vhs.paths import expanded


def needed(sources: Iterable[Source]) -> list[Asset]:
    """What is to be fetched for these sources: repositories of the Hub (their cache may lack files), and files of the
    release that are not here."""
    assets = []
    for source in sources:
        if source.repository is not None and (source.path is None or not source.single_file):
            target = expanded(source.name) if source.single_file else None
            assets.append(Asset(source.key, source.repository, source.patterns, source.kind, target))
    return assets


def fetch_all(sources: Iterable[Source], say: Say = print) -> int:
    """Says what the sources need and how large it is, fetches and verifies it; returns the bytes in all.

    Raises CheckpointError, before anything large is fetched where the disk is too small.
    """
    listed = []
    for asset in needed(sources):
        files = list_files(asset)
        listed.append((asset, files))
        say(f"{asset.key}: {asset.repository}: {len(files)} file{'s' * (len(files) > 1)}, {readable(_size(files))}")
    total = sum(_size(files) for _, files in listed)
    left = sum(_size([file for file in files if not cached(asset, file)]) for asset, files in listed)
    say(f"in all {readable(total)}, {readable(left)} of it still to be fetched")
    _require_space(left)
    for asset, files in listed:
        fetch(asset, files, say)
    return total


def _size(files: list[HubFile]) -> int:
    return sum(file.size for file in files)


def _require_space(size: int) -> None:
    from huggingface_hub.constants import HF_HUB_CACHE

    place = Path(HF_HUB_CACHE)
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if size > free:
        raise CheckpointError(
            f"{HF_HUB_CACHE}: {readable(size)} are to be fetched and {readable(free)} are free; "
            "set HF_HOME to a larger disk"
        )


def readable(size: int) -> str:
    """Bytes as text, in powers of 1,000."""
    value, unit = float(size), "B"
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
