"""What closes a run: annotations, summary, timings, contact sheet and report, all read from the prompts' folders.

Everything but the timings is a function of what is on disk, so an interrupted and continued run ends in the same bytes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from vhs.files import read_form, write_bytes, write_json
from vhs.judges.base import JudgeSpec
from vhs.judges.rows import GENEVAL
from vhs.judges.summary import as_json, as_text, tables
from vhs.records import Prompt
from vhs.runs.contact_sheet import save_contact_sheets
from vhs.runs.folder import RunFolder
from vhs.runs.forms import Stages, Timings
from vhs.runs.tables import COLUMNS, Run, closing_table, summary
from vhs.stages import total


def finish(
    folder: RunFolder,
    prompts: Sequence[Prompt],
    order: Sequence[Sequence[int]],
    judges: Sequence[JudgeSpec] = (),
) -> str:
    """Writes everything beside the prompts' folders; returns the closing table and where it all is, the
    report's path last.

    `order` has one list of prompt ids per process, in the order in which it worked. Each of `judges` besides GenEval
    adds its tables to summary.json.
    """
    from vhs.runs.report.page import write_report  # brings matplotlib, which no run needs before its end

    rows = {prompt.id: folder.rows(prompt.id) for prompt in prompts}
    winners = {prompt.id: folder.winner(prompt.id) for prompt in prompts}
    _write_annotations(folder, order, rows, winners)
    run = Run(folder.config.generation_mode, folder.config.num_samples, list(prompts), rows, winners)
    others = {judge.name: tables(judge, prompts, rows, winners) for judge in judges if judge.name != GENEVAL}
    values = summary(run)
    if others:
        values["judges"] = {name: as_json(found) for name, found in others.items()}
    write_json(folder.root / "summary.json", values)
    write_bytes(folder.root / "summary.csv", _csv(values).encode())
    _write_timings(folder)
    sheets = save_contact_sheets(folder, run)
    report = write_report(folder.root)
    closing = [closing_table(run)] if not others or run.judged else []
    closing += [as_text(name, found, COLUMNS) for name, found in others.items()]
    text = "\n\n".join(closing)
    written = f"{len(prompts)} prompts; summary.json, summary.csv, {', '.join(sheets)}"
    return f"{text}\n\n{folder.root}: {written}\n{report}"


def _write_annotations(
    folder: RunFolder, order: Sequence[Sequence[int]], rows: dict[int, list[dict[str, Any]]], winners: dict[int, int]
) -> None:
    for kind in ("all", "best"):
        for stale in folder.pictures.glob(f"{kind}_annotations_proc_*.json"):
            if stale not in [folder.annotations(kind, process) for process in range(len(order))]:
                stale.unlink()
    for process, ids in enumerate(order):
        write_json(folder.annotations("all", process), [row for index in ids for row in rows[index]])
        best = [
            {**rows[index][winners[index]], "filename": str(folder.picture(index, winners[index], best=True))}
            for index in ids
        ]
        write_json(folder.annotations("best", process), best)


def _write_timings(folder: RunFolder) -> None:
    """Merges what the processes measured into timings.json; prompts whose process was killed are missing from it."""
    file, drafts = folder.root / "timings.json", sorted(folder.root.glob(".timings_*.json"))
    prompts = read_form(file, Timings)["prompts"] if file.is_file() else {}
    for draft in drafts:
        prompts |= read_form(draft, Stages)
    prompts = dict(sorted(prompts.items()))
    write_json(
        file,
        {
            "unit": "seconds of wall clock",
            "measured_prompts": len(prompts),
            "stages": total(list(prompts.values())),
            "prompts": prompts,
        },
    )
    for draft in drafts:
        draft.unlink()


def _csv(values: dict[str, Any]) -> str:
    """summary.json's table: a line per tag and per overall, rates from 0 to 1 with their intervals."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    columns = ("mean_of_candidates", "pick", "oracle")
    writer.writerow(["tag", "prompts", *(f"{column}{part}" for column in columns for part in ("", "_low", "_high"))])
    for name, row in {**values["tags"], **values["overall"]}.items():
        cells = [row[column] or {} for column in columns]
        writer.writerow(
            [name, row["prompts"], *(cell.get(part, "") for cell in cells for part in ("value", "low", "high"))]
        )
    return out.getvalue()
