"""Pictures on disk: GenEval's layout (`00000/metadata.jsonl`, `00000/samples/0000.png`) or a run of this project."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vhs.errors import ConfigError, ImageError, PromptError, VHSError
from vhs.geneval.metadata import read_metadata
from vhs.geneval.prompt_parser import PromptParser
from vhs.picture_table import read_picture_table, require_readable
from vhs.records import Prompt

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
Check = Callable[[dict[str, Any], str], None]


@dataclass(frozen=True)
class Item:
    """One picture to judge, and GenEval's record of its prompt."""

    path: Path
    metadata: dict[str, Any]

    @property
    def key(self) -> str:
        """`00000/samples/0000.png`: the same wherever the folder lies."""
        return "/".join(self.path.parts[-3:])

    @property
    def drawing(self) -> str:
        """`00000_0000.png`, or of a picture in another layout all of its key."""
        folder, samples, _ = ("", "", *self.path.parts)[-3:]
        return f"{folder if samples == 'samples' else f'{folder}_{samples}'}_{self.path.stem}.png"


@dataclass
class Pictures:
    """What a folder holds: pictures in order, how many prompts GenEval does not judge, and what is wrong."""

    items: list[Item]
    unjudged: int
    problems: list[str]


def find_pictures(root: Path, check: Check, every: bool = False, keep_going: bool = False) -> Pictures:
    """The pictures under `root`. Of a run of ours, the winners, or with `every` all candidates that were saved.

    `check(metadata, where)` raises for what cannot be judged. With `keep_going` a prompt folder in which something is
    wrong becomes a line in `problems`; else it raises, a VHSError naming the file.
    """
    found = Pictures([], 0, [])
    for folder in prompt_folders(root):
        try:
            _add(found, folder, check, every, of_ours=folder.parent.name.startswith("gen_eval_"))
        except VHSError as error:
            if not keep_going:
                raise
            found.problems.append(str(error))
    if not found.items and not found.problems:
        raise ConfigError(f"{root}: none of its prompts can be judged; GenEval needs metadata with one of its six tags")
    return found


def listed_pictures(table: Path, root: Path, names: Sequence[str]) -> Pictures:
    """The pictures of a table of (file, prompt), with GenEval's records made from the prompts by rules.

    Prompts that the rules cannot read are counted and named in `problems`. Raises a VHSError for a picture that is
    missing, all of them listed, and where no prompt can be read.
    """
    rows = read_picture_table(table, root)
    require_readable([row.path for row in rows])
    parse, seen = PromptParser(names), {}
    found = Pictures([], 0, [])
    for row in rows:
        record = parse(row.prompt)
        if record is None:
            found.problems.append(f"{row.where}: {row.prompt!r} has not the form of a GenEval prompt")
            continue
        record |= {} if row.id is None else {"id": row.id}
        item = Item(row.path, record)
        if seen.setdefault(item.key, row.where) != row.where:
            raise PromptError(f"{row.where}: {row.path} is listed twice, first on {seen[item.key]}")
        found.items.append(item)
    if not found.items:
        raise ConfigError(f"{found.problems[0]}, and no other prompt either; docs/geneval.md shows the six forms")
    return found


def prompt_folders(root: Path) -> list[Path]:
    """The numbered folders under `root`, or under the `gen_eval_*` folder of a run, by number."""
    if not root.is_dir():
        raise ConfigError(f"{root}: no such folder")
    inner = sorted(path for path in root.glob("gen_eval_*") if path.is_dir())
    if len(inner) > 1:
        raise ConfigError(f"{root}: holds several gen_eval_* folders; name one of them")
    folders = [path for path in (inner[0] if inner else root).iterdir() if path.is_dir() and path.name.isdigit()]
    if not folders:
        raise ConfigError(f"{root}: no numbered prompt folders (00000/metadata.jsonl, 00000/samples/0000.png) in it")
    return sorted(folders, key=lambda path: int(path.name))


def _add(found: Pictures, folder: Path, check: Check, every: bool, of_ours: bool) -> None:
    where = folder / "metadata.jsonl"
    metadata = read_metadata(where)
    if of_ours and not Prompt(0, "", metadata).judged:
        found.unjudged += 1
        return
    check(metadata, str(where))
    paths = samples(folder, "img_" if of_ours and every else "best_" if of_ours else "")
    if not paths:
        raise ImageError(f"{folder / 'samples'}: no pictures named in digits ({', '.join(ENDINGS)})")
    found.items.extend(Item(path, metadata) for path in paths)


def samples(folder: Path, prefix: str = "") -> list[Path]:
    """The pictures `<prefix><digits>.<ending>` of a prompt folder, by name."""
    pattern = re.compile(rf"{prefix}\d+")
    paths = (folder / "samples").glob("*")
    return sorted(p for p in paths if p.suffix.lower() in ENDINGS and pattern.fullmatch(p.stem) and p.is_file())


def candidates(root: Path, prompt_id: int) -> list[Path]:
    """A prompt's pictures by candidate, in a run of this project (or its `gen_eval_*` folder), in GenEval's layout, or
    in SANA-1.5's: `img_<number>`, else all-digit names. Empty where there are none."""
    inner = [path for path in root.glob("gen_eval_*") if path.is_dir()]
    folder = (inner[0] if len(inner) == 1 else root) / f"{prompt_id:05d}"
    found = samples(folder, "img_") or samples(folder)
    return sorted(found, key=lambda path: int(path.stem.removeprefix("img_")))


def export(root: Path, target: Path) -> tuple[int, int]:
    """Lays out a run's winners for the official evaluator: lossless PNG, which it reads only under all-digit names.

    Returns (prompts laid out, prompts left out because GenEval cannot judge them). Raises ConfigError where `target`
    holds something already.
    """
    from vhs.pictures import open_picture

    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{target}: is not empty; give --to a new folder")
    found = find_pictures(root, lambda metadata, where: None)
    draft = target.with_name(f".{target.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    for folder, items in _by_folder(found.items).items():
        samples_folder = draft / folder / "samples"
        samples_folder.mkdir(parents=True)
        (draft / folder / "metadata.jsonl").write_text(json.dumps(items[0].metadata) + "\n", encoding="utf-8")
        for index, item in enumerate(items):
            open_picture(item.path).save(samples_folder / f"{index:04d}.png")
    if target.exists():
        target.rmdir()
    draft.replace(target)
    return len(found.items), found.unjudged


def _by_folder(items: list[Item]) -> dict[str, list[Item]]:
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(item.path.parts[-3], []).append(item)
    return groups
