"""Which pictures there are, and of which prompts: a folder and its prompt, a table of (file, prompt), or GenEval's
layout, which SANA-1.5 uses too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vhs.errors import ConfigError, ImageError, PromptError
from vhs.geneval.folders import ENDINGS, prompt_folders
from vhs.geneval.metadata import read_metadata
from vhs.picture_table import read_picture_table, require_readable
from vhs.records import Prompt


@dataclass(frozen=True)
class Group:
    """A prompt and its pictures, in order."""

    prompt: Prompt
    pictures: tuple[Path, ...]


def find_groups(images: Path | None, table: Path | None, prompt: str | None) -> list[Group]:
    """What a command line names: a folder and its prompt, a table, or a folder in GenEval's layout.

    Raises a VHSError for a folder without pictures, and one that lists every picture that is missing or damaged.
    """
    if table is not None:
        groups = read_table(table, images)
    elif images is None:
        raise ConfigError("rank: name pictures by --images, or by --pictures, a table of paths and prompts")
    elif prompt is not None:
        groups = [Group(Prompt(0, prompt), _pictures_in(images))]
    elif not any(path.is_dir() for path in images.glob("*")) and images.is_dir():
        raise ConfigError(f"{images}: no folders of prompts in it; give --prompt, what its pictures should show")
    else:
        groups = read_layout(images)
    require_readable([picture for group in groups for picture in group.pictures])
    return groups


def read_layout(root: Path) -> list[Group]:
    """GenEval's layout (`00000/metadata.jsonl`, `00000/samples/*`), SANA-1.5's, or a run of this project."""
    groups = []
    for folder in prompt_folders(root):
        metadata = read_metadata(folder / "metadata.jsonl")
        if not isinstance(metadata.get("prompt"), str):
            raise PromptError(f"{folder / 'metadata.jsonl'}: no prompt in it")
        pictures = tuple(path for path in _pictures_in(folder / "samples") if not path.stem.startswith("best_"))
        groups.append(Group(Prompt(int(folder.name), metadata["prompt"], metadata), pictures))
    return groups


def read_table(file: Path, root: Path | None = None) -> list[Group]:
    """A CSV, TSV or JSONL of (file, prompt), grouped by prompt; paths are relative to `root`, else to the table."""
    groups: dict[str, list[Path]] = {}
    for one in read_picture_table(file, root):
        groups.setdefault(one.prompt, []).append(one.path)
    return [Group(Prompt(number, text), tuple(paths)) for number, (text, paths) in enumerate(groups.items())]


def _pictures_in(folder: Path) -> tuple[Path, ...]:
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS and path.is_file())
    if not found:
        raise ImageError(f"{folder}: no pictures in it ({', '.join(ENDINGS)})")
    return tuple(found)
