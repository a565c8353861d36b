"""The folder of a run: where everything is, written so that an interruption leaves only whole files.

A prompt's folder is filled under a hidden name and renamed when it is complete: one that exists is done.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vhs.config.run import RunConfig
from vhs.errors import RunError
from vhs.files import read_form, write_bytes, write_json
from vhs.folders import Kind
from vhs.paths import expanded
from vhs.records import Prompt
from vhs.runs.forms import Recorded, Row

TOP_FILES = ("summary.json", "summary.csv", "timings.json", "report.html")


class RunFolder:
    """Paths of one run: `<output_path>/<name>/gen_eval_<name>/<prompt id>/samples/...`."""

    def __init__(self, config: RunConfig, root: Path | None = None, pictures: str | None = None) -> None:
        """`root` is another place than the configuration's, `pictures` another name of the folder of prompts."""
        self.config = config
        self.root = root or expanded(config.output_path) / config.name
        self.pictures = self.root / (pictures or f"gen_eval_{config.name}")

    @property
    def draft(self) -> RunFolder:
        """Where the prompts' folders of a run that is judged again are written until all are there."""
        return RunFolder(self.config, self.root, f".{self.pictures.name}.draft")

    def prompt(self, prompt_id: int) -> Path:
        """The folder of one prompt."""
        return self.pictures / f"{prompt_id:05d}"

    def picture(self, prompt_id: int, candidate: int, best: bool = False) -> Path:
        """A candidate's picture; `best` is the copy that marks the winner."""
        kind = "best" if best else "img"
        return self.prompt(prompt_id) / "samples" / f"{kind}_{candidate:05d}.{self.config.fmt}"

    def row(self, prompt_id: int, candidate: int) -> Path:
        """A candidate's record."""
        return self.prompt(prompt_id) / "samples" / f"{candidate:05d}_metadata.json"

    def annotations(self, kind: str, process: int) -> Path:
        """`all` or `best` annotations of one process."""
        return self.pictures / f"{kind}_annotations_proc_{self.config.verifier_label}_id_proc_{process}.json"

    def done(self, prompt_id: int) -> bool:
        """The prompt's folder is complete."""
        return self.prompt(prompt_id).is_dir()

    def rows(self, prompt_id: int) -> list[dict[str, Any]]:
        """The records of every candidate of a finished prompt, by candidate."""
        count = self.config.num_samples
        if self.config.stop_when is not None:  # a prompt may have ended before
            count = len(list((self.prompt(prompt_id) / "samples").glob("[0-9]*_metadata.json")))
        rows = [read_row(self.row(prompt_id, candidate)) for candidate in range(count)]
        for candidate, row in enumerate(rows):  # a run that was moved names its pictures where they are
            row["filename"] = str(self.picture(prompt_id, candidate))
        return rows

    def winner(self, prompt_id: int) -> int:
        """The winner of a finished prompt."""
        found = sorted((self.prompt(prompt_id) / "samples").glob("best_*"))
        if not found:
            raise RunError(
                f"{self.prompt(prompt_id)}: no samples/best_*; the folder was changed: run again with cont: false"
            )
        return winner_of(found[0], self.config.num_samples)

    def write_prompt(
        self,
        prompt: Prompt,
        winner: int,
        pictures: Mapping[int, bytes],
        rows: Iterable[Mapping[str, Any]],
        objects: Mapping[int, Sequence[Mapping[str, Any]]] = MappingProxyType({}),
    ) -> None:
        """Everything about one prompt, at once. `pictures` are encoded files by candidate, the winner among them;
        `objects` are those that the judge counted in a candidate's picture.

        Raises RunError where the disk refuses; the folder is then as it was before.
        """
        draft = self.pictures / f".{prompt.id:05d}.part"
        try:
            self._fill(draft, prompt, winner, pictures, rows)
            if objects:
                write_json(draft / "objects.json", objects)
            os.replace(draft, self.prompt(prompt.id))
        except OSError as error:
            raise RunError(f"{self.prompt(prompt.id)}: cannot be written ({error.strerror}); check the disk") from None
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _fill(
        self, draft: Path, prompt: Prompt, winner: int, pictures: Mapping[int, bytes], rows: Iterable[Mapping[str, Any]]
    ) -> None:
        shutil.rmtree(draft, ignore_errors=True)
        samples = draft / "samples"
        samples.mkdir(parents=True)
        for candidate, data in pictures.items():
            write_bytes(samples / self.picture(prompt.id, candidate).name, data)
        write_bytes(samples / self.picture(prompt.id, winner, best=True).name, pictures[winner])
        for candidate, row in enumerate(rows):
            write_json(samples / self.row(prompt.id, candidate).name, row)
        record = json.dumps(prompt.record, ensure_ascii=False)
        write_bytes(draft / "metadata.jsonl", f"{record}\n".encode())

    def clean(self) -> None:
        """Removes what an interruption left half done."""
        for draft in self.pictures.glob(".*.part"):
            shutil.rmtree(draft, ignore_errors=True)
        for draft in [*self.root.glob(".*.tmp"), *self.pictures.glob(".*.tmp")]:
            draft.unlink(missing_ok=True)

    @property
    def kind(self) -> Kind:
        """What a run writes into its folder."""
        names = ("contact_sheet*.png", ".timings_*", self.pictures.name, f".{self.pictures.name}.*", ".*.tmp")
        return Kind("run", "run.json", (*TOP_FILES, *names), "give this one another name")

    def remove(self) -> None:
        """Deletes a run, and nothing in its folder that a run does not write; run.json goes last."""
        self.kind.remove(self.root)

    def manifest(self, form: Any = Recorded) -> dict[str, Any] | None:
        """run.json, or None before the first run. Raises RunError where it is not of the form."""
        file = self.root / "run.json"
        return read_form(file, form) if file.is_file() else None


def read_row(file: Path, form: Any = Row) -> dict[str, Any]:
    """A candidate's record. Raises RunError for what is none, or is not of the form."""
    row = read_form(file, form)
    if "correct" in row and not {"tag", "reason"} <= row.keys():
        raise RunError(f"{file}: has a verdict, but no tag or no reason; run again with cont: false")
    return row


def winner_of(file: Path, count: int) -> int:
    """The candidate of `samples/best_<candidate>.<ending>`, one of `count`. Raises RunError for another name."""
    name = file.stem.removeprefix("best_")
    if not name.isdecimal() or int(name) >= count:
        raise RunError(f"{file}: names none of {count} candidates; the folder was changed: run again with cont: false")
    return int(name)


def changed_keys(old: Mapping[str, Any], new: Mapping[str, Any], ignore: Iterable[str] = ()) -> list[str]:
    """What differs between two manifests and changes results, as `key: old, now new`; what `new` lacks is left out."""
    before, after = old.get("config", {}), new["config"]
    keys = sorted({*before, *after} - set(RunConfig.keys_where(results=False)) - set(ignore))
    lines = [f"{key}: {before.get(key)}, now {after.get(key)}" for key in keys if before.get(key) != after.get(key)]
    if "sha256" in new.get("prompts", {}) and old.get("prompts", {}).get("sha256") != new["prompts"]["sha256"]:
        lines.append(f"annotation: {after.get('annotation')} has other content than before")
    lines += [
        f"{key}: {new[key].get('name', new[key]['kind'])} has another registry entry than before"
        for key in ("verifier", "reranker")
        if key in old and key in new and old[key] != new[key]
    ]
    was, now = old.get("checkpoints", {}), new.get("checkpoints", {})
    lines += [
        f"{key}: {now[key]['path']} has other content than before"
        for key in now
        if key not in ignore and key in was and was[key] != now[key]
    ]
    if old.get("seeds") != new.get("seeds", old.get("seeds")) and not lines:
        lines.append(
            f"processes: {old['seeds'].get('processes')}, now {new['seeds'].get('processes')} (noise: published)"
        )
    return lines
