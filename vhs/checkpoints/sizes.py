"""How large a download will be, without a network: sizes of the repositories that the shipped configurations name.

Where no file list was at hand, a size is the counted parameters times the bytes of the precision that they are
published in, and says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vhs.checkpoints.source import RELEASE_FILES, Source

LISTED, COUNTED = "Hub's file list", "counted from the architecture"


@dataclass(frozen=True)
class Size:
    """Bytes of what a run fetches of a repository, and where the figure comes from."""

    bytes: int
    basis: str


SIZES = {
    "Efficient-Large-Model/Sana_Sprint_1.6B_1024px_diffusers": Size(9_700_000_000, COUNTED),
    "Efficient-Large-Model/Sana_Sprint_0.6B_1024px_diffusers": Size(7_700_000_000, LISTED),
    "Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers": Size(9_700_000_000, LISTED),
    "PixArt-alpha/PixArt-Alpha-DMD-XL-2-512x512": Size(2_400_000_000, LISTED),
    "PixArt-alpha/PixArt-XL-2-512x512": Size(19_400_000_000, LISTED),
    "black-forest-labs/FLUX.1-schnell": Size(33_700_000_000, LISTED),
    "stabilityai/stable-diffusion-3.5-large-turbo": Size(27_600_000_000, LISTED),
    "aimagelab/vhs-hidden-verifier": Size(1_000_000_000, COUNTED),
    "aimagelab/vhs-mllm-clip-verifier": Size(1_000_000_000, COUNTED),
    "Qwen/Qwen2.5-0.5B-Instruct": Size(990_000_000, COUNTED),
    "google/gemma-3-4b-it": Size(8_600_000_000, COUNTED),
    "openai/clip-vit-large-patch14-336": Size(1_710_000_000, COUNTED),
    "timm/vit_large_patch14_clip_224.openai": Size(1_710_000_000, COUNTED),
}
"""By repository. The lists' sizes are those of docs/generators.md."""
RELEASE_SIZES = {".pth": Size(275_000_000, COUNTED), ".pt": Size(5_000, COUNTED)}
"""Of the release's single files, by ending: GenEval's detector, a moment of a hidden state's statistics."""


def download_size(source: Source) -> Size | None:
    """What is still to be fetched of a source: nothing where it is here; None where its size is not known."""
    if source.path is not None:
        return Size(0, "here")
    if source.repository == RELEASE_FILES:
        return RELEASE_SIZES.get(Path(source.name).suffix)
    return SIZES.get(source.repository or "")


def total(sources: Iterable[Source]) -> tuple[int, list[str]]:
    """(bytes to be fetched in all, the names of those whose size is not known); a repository counts once."""
    once = {source.name: source for source in sources}
    sizes = {name: download_size(source) for name, source in once.items()}
    return sum(size.bytes for size in sizes.values() if size), [name for name, size in sizes.items() if size is None]
