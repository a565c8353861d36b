"""report.html: one file with everything inside, made from a run's folder."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from vhs.files import write_bytes
from vhs.runs.report import rows as gallery
from vhs.runs.report.data import RunData, read_run
from vhs.runs.report.pictures import Thumbnail, thumbnails
from vhs.runs.report.summary import figures, meta, notes, numbers, partial, tag_rows
from vhs.runs.tables import COLUMNS, summary

TEMPLATES = Path(__file__).parent / "templates"


def write_report(root: str | Path) -> Path:
    """Makes `<root>/report.html` from the folder of a run, finished or not; returns its path. Raises RunError."""
    data = read_run(root)
    file = data.root / "report.html"
    write_bytes(file, run_page(data).encode())
    return file


def run_page(data: RunData) -> str:
    """The page of one run."""
    run = data.table
    orders = {prompt.id: gallery.score_order(run.rows[prompt.id]) for prompt in run.prompts}
    files = [data.picture(prompt, candidate) for prompt, order in orders.items() for candidate in order]
    found = iter(thumbnails(files))
    pictures = {prompt: [next(found) for _ in order] for prompt, order in orders.items()}
    tiles = {
        prompt: [
            gallery.tile(data, prompt, candidate, pictures[prompt][place], place)
            for place, candidate in enumerate(order)
        ]
        for prompt, order in orders.items()
    }
    rows = [
        {
            "id": prompt.id,
            "text": prompt.text,
            "tag": prompt.metadata["tag"] if prompt.judged else None,
            "flags": gallery.flags(run.rows[prompt.id], run.winners[prompt.id]),
            "facts": gallery.facts(run.rows[prompt.id], prompt, run.winners[prompt.id]),
        }
        for prompt in run.prompts
    ]
    values = summary(run)
    return render(
        "run.html.jinja",
        title=data.name,
        run=run,
        meta=meta(data),
        partial=partial(data),
        numbers=numbers(data, values),
        notes=notes(data),
        figures=figures(data),
        table=tag_rows(values),
        columns=[COLUMNS[name] for name in COLUMNS],
        manifest=json.dumps(data.manifest, indent=1, ensure_ascii=False),
        gallery_title="Prompts and candidates",
        gallery_note="A row per prompt, candidates in the order of their scores, the pick framed.",
        tags=list(dict.fromkeys(row["tag"] for row in rows if row["tag"])),
        shows=_shows(rows),
        boxes=any(data.boxes.values()),
        rows=rows,
        tile="7rem",
        data=embedded({"tiles": tiles}),
        pictures=blocks(pictures),
    )


def render(template: str, **values: Any) -> str:
    """A template with this page's style and script in it. Values are text and are escaped; only Markup is not."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    script = (TEMPLATES / "gallery.js").read_text(encoding="utf-8")
    return environment.get_template(template).render(
        css=Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        **values,
    )


def embedded(value: Any) -> Markup:
    """JSON for a script element: no character in it can end the element or start a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def blocks(pictures: Mapping[int, Sequence[Thumbnail | None]]) -> Iterator[tuple[int, Markup]]:
    """(prompt id, its pictures in base64, one a line); an empty line where there is none."""
    for prompt, found in pictures.items():
        yield prompt, Markup("\n".join(base64.b64encode(one.data).decode() if one else "-" for one in found))


def _shows(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Filters that some prompt passes."""
    passed = {flag for row in rows for flag in row["flags"]}
    return {flag: words for flag, words in gallery.SHOWS.items() if flag in passed}
