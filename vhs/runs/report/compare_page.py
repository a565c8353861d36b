"""compare.html: the picks of several runs side by side, in the page of a run's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from vhs.records import Prompt
from vhs.runs.report import figures as draw
from vhs.runs.report import rows as gallery
from vhs.runs.report.analysis import curve, judged
from vhs.runs.report.compare_tables import difference_rows, rate_rows, test_sentence
from vhs.runs.report.data import RunData
from vhs.runs.report.page import blocks, embedded, render
from vhs.runs.report.paired import Comparison, Cost, quality_over_cost
from vhs.runs.report.pictures import thumbnails


def compare_page(comparison: Comparison, costs: Mapping[str, Mapping[str, Cost]]) -> str:
    """One file with everything inside."""
    runs, prompts = comparison.runs, comparison.prompts
    files = [run.picture(prompt.id, run.table.winners[prompt.id]) for prompt in prompts for run in runs]
    found = iter(thumbnails(files))
    pictures = {prompt.id: [next(found) for _ in runs] for prompt in prompts}
    names = run_names(runs)
    tiles = {
        prompt.id: [
            gallery.tile(run, prompt.id, run.table.winners[prompt.id], pictures[prompt.id][place], place)
            | {"by": name, "pick": False, "file": None}
            for place, (run, name) in enumerate(zip(runs, names, strict=True))
        ]
        for prompt in prompts
    }
    shows = pair_shows(names)
    rows = [_row(comparison, prompt, names) for prompt in prompts]
    passed = {flag for row in rows for flag in row["flags"]}
    return render(
        "compare.html.jinja",
        title=" · ".join(system.title for system in comparison.systems),
        meta=f"{len(prompts)} prompts in common, {comparison.counts.get('mean over prompts', 0)} judged in every run",
        partial="a run is not finished; everything here is about the prompts that all have."
        if comparison.partial
        else "",
        rates=rate_rows(comparison) if comparison.rates else [],
        differences=difference_rows(comparison) if comparison.differences else [],
        tests=[test_sentence(one) for one in comparison.differences],
        figures=[
            {**one, "svg": Markup(draw.themed_svg(one["figure"], one["title"])), "table": None}
            for one in drawn(comparison, costs)
        ],
        gallery_title="Picks side by side",
        gallery_note="A row per prompt, each run's pick.",
        tags=list(dict.fromkeys(row["tag"] for row in rows if row["tag"])),
        shows={flag: words for flag, words in shows.items() if flag in passed},
        boxes=any(any(run.boxes.values()) for run in runs),
        rows=rows,
        tile="11rem",
        data=embedded({"tiles": tiles}),
        pictures=blocks(pictures),
    )


def run_names(runs: Sequence[RunData]) -> list[str]:
    """The runs' own names; their folders where two have the same."""
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.root) for run in runs]


def pair_shows(names: Sequence[str]) -> dict[str, str]:
    """Filters: flag -> words."""
    found = {"differ": "verdicts differ"}
    for index, name in enumerate(names[1:], start=1):
        found[f"first-{index}"] = f"{names[0]} right, {name} wrong"
        found[f"second-{index}"] = f"{name} right, {names[0]} wrong"
    return found | {"none": "no run right"}


def drawn(comparison: Comparison, costs: Mapping[str, Mapping[str, Cost]]) -> list[dict[str, Any]]:
    """{name, title, figure, caption} of each figure that the runs have the data for."""
    tables = {system.title: judged(system.runs[0].table) for system in comparison.systems}
    curves = {title: curve(table) for title, table in tables.items() if len(table.scores)}
    found = []
    if curves:
        found.append(
            {
                "name": "curves",
                "title": "Best of n",
                "figure": draw.curve_figure(curves),
                "caption": "Exact: the mean over all subsets of n candidates. Shaded: 95 %. Oracle and mean: "
                f"{next(iter(curves))}.",
            }
        )
    for unit, lines in quality_over_cost(comparison, costs).items():
        found.append(
            {
                "name": f"quality_over_{''.join(letter if letter.isalnum() else '_' for letter in unit)}",
                "title": f"Quality over cost, {unit}",
                "figure": draw.quality_over_cost_figure(lines, unit),
                "caption": "A number at a point is n; the cost is once per prompt plus n times per candidate"
                + (", from the medians of each run's stages." if unit == "ms per prompt" else "."),
            }
        )
    return found


def _row(comparison: Comparison, prompt: Prompt, names: Sequence[str]) -> dict[str, Any]:
    picks = [run.table.rows[prompt.id][run.table.winners[prompt.id]] for run in comparison.runs]
    right = [pick.get("correct") for pick in picks]
    flags = []
    if None not in right:
        flags = ["differ"] if len(set(right)) > 1 else [] if right[0] else ["none"]
        flags += [f"first-{index}" for index in range(1, len(right)) if right[0] and not right[index]]
        flags += [f"second-{index}" for index in range(1, len(right)) if right[index] and not right[0]]
    facts = [("tag", prompt.metadata["tag"])] if prompt.judged else []
    facts += [
        ("right", f"✓ {name}") if verdict else ("wrong", f"✗ {name}")
        for name, verdict in zip(names, right, strict=True)
        if verdict is not None
    ]
    return {
        "id": prompt.id,
        "text": prompt.text,
        "tag": prompt.metadata["tag"] if prompt.judged else None,
        "flags": flags,
        "facts": facts,
    }
