"""What `rank.py` does: rank every prompt's pictures, write the table, the contact sheet and the best."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vhs.choosing import require_finite
from vhs.errors import RunError
from vhs.files import write_bytes
from vhs.pictures import Pictures, encode
from vhs.ranking.groups import Group, find_groups
from vhs.ranking.rank import Ranked, load_spec, parse_keys, rank, ranked, require_top, resolve_named
from vhs.runs.contact_sheet import ROWS_A_PAGE, draw_sheet
from vhs.runs.tables import Run
from vhs.verifiers.base import ask
from vhs.verifiers.score_file import PictureScores, picture_hash, write_score_file

if TYPE_CHECKING:
    from tqdm import tqdm

    from vhs.verifiers.base import Verifier

SHEET_TILES = 16
HEADER = ("prompt_id", "prompt", "rank", "score", "p_yes", "p_no", "says_yes", "picked", "file")


@dataclass(frozen=True)
class RankJob:
    """A command line of rank.py. `best` is copy, link or None; `out` is where everything is written."""

    images: Path | None
    table: Path | None
    prompt: str | None
    verifier: str | None
    top: int
    tournament: bool
    best: str | None
    out: Path | None
    keys: Sequence[str]


def run_ranking(job: RankJob, say: Callable[[str], None] = print) -> Path:
    """Ranks, writes, and says the best of each prompt; returns the folder of what was written.

    Everything that can be known is checked before the verifier loads. Raises a VHSError.
    """
    groups = find_groups(job.images, job.table, job.prompt)
    for group in groups:
        require_top(job.top, len(group.pictures), job.tournament, f"prompt {group.prompt.id} ({group.prompt.text!r})")
    spec, config = resolve_named(job.verifier, parse_keys(job.keys))
    if spec.kind == "scores":
        root = job.images or job.table.parent
        verifier = PictureScores(spec.sources[0].path, [path for group in groups for path in group.pictures], root)
    else:
        verifier = load_spec(spec, config)
    with _progress(groups) as bar:
        places = [rank(group.pictures, group.prompt, verifier, job.top, job.tournament) for group in bar]
    out = job.out or Path("outputs") / "rank" / (job.images or job.table).resolve().stem
    write_bytes(out / "ranking.csv", _csv(groups, places).encode())
    sheets = _save_sheets(out, groups, places)
    for group, order in zip(groups, places, strict=True):
        say(f"{group.prompt.id}: {group.prompt.text}")
        for one in order[: job.top]:
            say(f"  {one.rank}  {one.score:+.4f}  {one.picture}")
    kept = _save_best(out, groups, places, job) if job.best else []
    say(f"{out}: {', '.join(['ranking.csv', *sheets, *kept])}")
    return out


def score_pictures(
    groups: Sequence[Group], names: Sequence[str], keys: Sequence[str], out: Path, say: Callable[[str], None] = print
) -> list[Path]:
    """Writes a file of scores per verifier, a line per picture, for `kind: scores`; returns the files. Raises a
    VHSError before the first verifier loads where that can be known."""
    resolved = {name: resolve_named(name, parse_keys(keys)) for name in names}
    files = []
    for name, (spec, config) in resolved.items():
        verifier = load_spec(spec, config)
        with _progress(groups) as bar:
            rows = [row for group in bar for row in _score_rows(group, verifier)]
        files.append(out / f"{name.replace('/', '_')}.jsonl")
        write_score_file(files[-1], rows)
        say(f"{files[-1]}: {len(rows)} pictures of {len(groups)} prompts")
    return files


def _score_rows(group: Group, verifier: Verifier) -> list[dict[str, Any]]:
    """Paths as they were given: they are looked up so, or relative to the folder of pictures."""
    score = ask(verifier, group.prompt, Pictures(group.pictures))
    require_finite(group.prompt, score)
    ranked_ones = sorted(ranked(group.pictures, score, ()), key=lambda one: one.index)
    return [
        {"picture": str(one.picture), "prompt": group.prompt.text, "score": one.score}
        | ({} if one.p_yes is None else {"p_yes": one.p_yes, "p_no": one.p_no, "correct": one.says_yes})
        | {"sha256": picture_hash(one.picture)}
        for one in ranked_ones
    ]


def _progress(groups: Sequence[Group]) -> tqdm[Group]:
    from tqdm import tqdm

    return tqdm(groups, unit="prompt", disable=len(groups) == 1, dynamic_ncols=True)


def _csv(groups: Sequence[Group], places: Sequence[Sequence[Ranked]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(HEADER)
    for group, order in zip(groups, places, strict=True):
        for one in order:
            said = ["" if value is None else value for value in (one.p_yes, one.p_no, one.says_yes)]
            writer.writerow([group.prompt.id, group.prompt.text, one.rank, one.score, *said, one.picked, one.picture])
    return stream.getvalue()


@dataclass(frozen=True)
class _Places:
    """The ranked pictures where the contact sheet looks for a run's candidates."""

    places: dict[int, Sequence[Ranked]]

    def picture(self, prompt_id: int, place: int) -> Path:
        return Path(self.places[prompt_id][place].picture)


def _save_sheets(out: Path, groups: Sequence[Group], places: Sequence[Sequence[Ranked]]) -> list[str]:
    """One row per prompt: the pictures in their order, the best framed; the first sixteen where there are more."""
    prompts = [group.prompt for group in groups]
    shown = {prompt.id: order[:SHEET_TILES] for prompt, order in zip(prompts, places, strict=True)}
    rows = {prompt_id: [{"score": one.score} for one in order] for prompt_id, order in shown.items()}
    most = max(len(order) for order in shown.values())
    run = Run("dev", most, prompts, rows, dict.fromkeys(shown, 0))
    names = []
    for page, start in enumerate(range(0, len(prompts), ROWS_A_PAGE), start=1):
        names.append("contact_sheet.png" if page == 1 else f"contact_sheet_{page}.png")
        sheet = draw_sheet(_Places(shown), run, prompts[start : start + ROWS_A_PAGE])
        write_bytes(out / names[-1], encode(sheet, "png"))
    return names


def _save_best(out: Path, groups: Sequence[Group], places: Sequence[Sequence[Ranked]], job: RankJob) -> list[str]:
    """The picks in `best_<k>_of_<N>`: of one folder side by side, otherwise in GenEval's layout as SANA-1.5 has it."""
    most = max(len(group.pictures) for group in groups)
    target = out / f"best_{job.top}_of_{most}"
    shutil.rmtree(target, ignore_errors=True)
    for group, order in zip(groups, places, strict=True):
        picks = [one for one in order if one.picked]
        if job.prompt is not None:
            names = [f"{one.rank:0{len(str(job.top))}d}_{Path(one.picture).name}" for one in picks]
            _place([Path(one.picture) for one in picks], [target / name for name in names], job.best)
            continue
        folder = target / f"{group.prompt.id:05d}"
        record = json.dumps(group.prompt.record, ensure_ascii=False)
        write_bytes(folder / "metadata.jsonl", f"{record}\n".encode())
        names = [Path(one.picture).name for one in picks]
        if len(set(names)) < len(names):
            names = [f"{one.index:05d}{Path(one.picture).suffix}" for one in picks]
        _place([Path(one.picture) for one in picks], [folder / "samples" / name for name in names], job.best)
    return [f"{target.name}/"]


def _place(pictures: Sequence[Path], targets: Sequence[Path], how: str) -> None:
    try:
        for picture, target in zip(pictures, targets, strict=True):
            target.parent.mkdir(parents=True, exist_ok=True)
            if how == "link":
                os.symlink(picture.resolve(), target)
            else:
                shutil.copyfile(picture, target)
    except OSError as error:
        raise RunError(f"{targets[0].parent}: cannot be written ({error.strerror}); check --out") from None
