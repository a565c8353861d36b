"""results.jsonl in GenEval's fields: written whole, continued where it stopped, never mixed with other pictures.

Beside it lies `results.images.json`: which judge, and the SHA-256 of every picture that was judged. While work goes on,
each process appends to a hidden part file of its own; the parts become the two files when all are done.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from vhs.checkpoints.boundary import loading
from vhs.errors import ImageError, RunError
from vhs.files import read_form, write_bytes, write_json
from vhs.geneval.folders import Item
from vhs.records import Verdict

Row = dict[str, Any]
FIELDS = {"filename": str, "tag": str, "prompt": str, "correct": bool, "reason": str, "metadata": str, "details": str}
"""GenEval's own, in its order."""
Judged = dict[str, tuple[str, Row]]
"""Item.key -> (SHA-256 of the picture, its row)."""


class Record(TypedDict):
    """results.images.json: which judge, and the hash of each picture."""

    judge: Any
    images: dict[str, str]


def make_row(item: Item, verdict: Verdict, names: Sequence[str]) -> Row:
    """GenEval's own fields; `details` maps each class found to its boxes and scores, in the detector's class order."""
    details: dict[str, list[list[float]]] = {}
    for found in sorted(verdict.objects, key=lambda one: names.index(one.label)):
        details.setdefault(found.label, []).append([*found.box, found.score])
    return {
        "filename": str(item.path),
        "tag": item.metadata["tag"],
        "prompt": item.metadata["prompt"],
        "correct": verdict.correct,
        "reason": verdict.reason,
        "metadata": json.dumps(item.metadata),
        "details": json.dumps(details),
    }


def picture_digest(path: Path) -> str:
    """SHA-256 of a picture file; raises ImageError where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror})") from None


class Results:
    """A results file and what belongs to it."""

    def __init__(self, out: Path, judge: Mapping[str, Any], process: int = 0):
        """`judge` describes everything that verdicts depend on, as JSON values."""
        self.out = out
        self.judge = json.loads(json.dumps(judge))
        self.process = process

    @property
    def record(self) -> Path:
        """Which pictures and which judge the results are of."""
        return self.out.with_name(f"{self.out.stem}.images.json")

    def part(self, process: int) -> Path:
        """What one process has judged so far."""
        return self.out.with_name(f".{self.out.stem}.part-{process}.jsonl")

    def restart(self) -> None:
        """Forgets everything."""
        for path in [self.out, self.record, *self._parts()]:
            path.unlink(missing_ok=True)

    def gather(self) -> None:
        """Makes one clean part file of what an interrupted command left. For one process, before the others start."""
        judged: Judged = {}
        for path in self._parts():
            judged.update(self._read_part(path))
        if judged:
            lines = [self._head(), *(_part_line(*entry) for entry in judged.values())]
            write_bytes(self.part(0), "".join(lines).encode())
        for path in self._parts():
            if path != self.part(0) or not judged:
                path.unlink()

    def judged(self) -> Judged:
        """What is done, by the results file and the parts. Raises RunError for another judge or an unknown origin."""
        judged = self.finished()
        for path in self._parts():
            judged.update(self._read_part(path))
        return judged

    def check(self, judged: Judged, items: Sequence[Item]) -> None:
        """Raises RunError unless `judged` is of these very pictures with these records."""
        known = {item.key: item for item in items}
        for key, (digest, row) in judged.items():
            if key not in known:
                raise RunError(f"{self.out}: has a verdict on {key}, which is not among these pictures; {AGAIN}")
            if digest != picture_digest(known[key].path):
                raise RunError(f"{known[key].path}: not the picture that {self.out} judged under this name; {AGAIN}")
            if json.loads(row["metadata"]) != known[key].metadata:
                raise RunError(f"{known[key].path}: its metadata is not what {self.out} was judged by; {AGAIN}")

    def append(self, rows: Iterable[tuple[Item, Row]]) -> None:
        """Adds verdicts to this process's part, on disk when it returns."""
        path = self.part(self.process)
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [_part_line(picture_digest(item.path), row) for item, row in rows]
        with path.open("a", encoding="utf-8") as file:
            if not file.tell():
                file.write(self._head())
            file.writelines(lines)

    def close(self, items: Sequence[Item]) -> list[Row]:
        """Makes the parts into the results file, rows in the order of `items`, and returns them. For one process."""
        judged = self.judged()
        rows = [judged[item.key] for item in items if item.key in judged]
        write_json(self.record, {"judge": self.judge, "images": {_key(row): digest for digest, row in rows}})
        write_bytes(self.out, "".join(json.dumps(row) + "\n" for _, row in rows).encode())
        for path in self._parts():
            path.unlink()
        return [row for _, row in rows]

    def _parts(self) -> list[Path]:
        return sorted(self.out.parent.glob(f".{self.out.stem}.part-*.jsonl"))

    def _head(self) -> str:
        return json.dumps({"judge": self.judge}) + "\n"

    def finished(self) -> Judged:
        """What the results file has, which commands that ended have judged. Raises RunError as `judged` does."""
        if not self.out.exists():
            return {}
        rows = read_rows(self.out)
        remedy = f"it says which pictures {self.out.name} is of; {AGAIN}"
        record = read_form(self.record, Record, remedy=remedy)
        images = record["images"]
        self._same_judge(record.get("judge"), self.out)
        return {_key(row): (images[_key(row)], row) for row in rows if _key(row) in images}

    def _read_part(self, path: Path) -> Judged:
        """Whole lines only: an interrupted process may leave half a line at the end."""
        with loading("part of results", path, AGAIN):
            head, *lines = path.read_text(encoding="utf-8").split("\n")[:-1] or [""]
            if not head:
                return {}
            self._same_judge(json.loads(head).get("judge"), path)
            entries = [json.loads(line) for line in lines]
            return {_key(entry["row"]): (str(entry["sha256"]), as_row(entry["row"])) for entry in entries}

    def _same_judge(self, other: Any, where: Path) -> None:
        changed = [key for key in self.judge if not isinstance(other, dict) or other.get(key) != self.judge[key]]
        if changed:
            raise RunError(f"{where}: judged with another {', '.join(changed)}; {AGAIN}")


AGAIN = "give another --out, or --restart to judge from the start"


def read_rows(path: Path) -> list[Row]:
    """The rows of a results file, ours or the official evaluator's. Raises RunError with file and line."""
    rows = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: cannot be read ({error})") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            rows.append(as_row(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise RunError(f"{path}:{number}: not a row in GenEval's fields ({error!r})") from None
    return rows


def as_row(row: Mapping[str, Any]) -> Row:
    """The row's own fields. Raises KeyError, TypeError or ValueError for what is no row."""
    fields = {key: row[key] for key in FIELDS}
    for key, value in fields.items():
        if not isinstance(value, FIELDS[key]):
            raise TypeError(f"{key} is {str(value)[:40]!r}")
    json.loads(fields["metadata"])
    return fields


def _key(row: Row) -> str:
    return "/".join(Path(row["filename"]).parts[-3:])


def _part_line(digest: str, row: Row) -> str:
    return json.dumps({"sha256": digest, "row": row}) + "\n"
