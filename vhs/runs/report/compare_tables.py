"""A comparison as text, CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence

from vhs.runs.report.paired import Comparison, Difference, Triple

LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


def as_text(comparison: Comparison) -> str:
    """The tables and the test, for a terminal."""
    parts = [_scope(comparison)]
    if comparison.rates:
        parts += [aligned(rate_rows(comparison)), aligned(difference_rows(comparison))]
        parts += ["\n".join(map(test_sentence, comparison.differences))]
    return "\n\n".join(parts)


def as_markdown(comparison: Comparison) -> str:
    """Two tables."""
    tables = [rate_rows(comparison), difference_rows(comparison)] if comparison.rates else []
    sentences = [markdown_text(test_sentence(one)) for one in comparison.differences]
    return "\n\n".join([markdown_text(_scope(comparison)), *map(markdown_table, tables), *sentences]) + "\n"


def as_latex(comparison: Comparison) -> str:
    """Two tabulars that need booktabs."""
    if not comparison.rates:
        return f"% {_scope(comparison)}\n"
    return "\n\n".join(map(tabular, (rate_rows(comparison), difference_rows(comparison)))) + "\n"


def as_csv(comparison: Comparison) -> str:
    """A line per row and run: rates and differences from 0 to 1."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    head = ("run", "seeds", "tag", "prompts", "pick", "pick_low", "pick_high")
    writer.writerow([*head, "against", "difference", "difference_low", "difference_high", "mcnemar_p"])
    differences = {one.second: one for one in comparison.differences}
    for system in comparison.systems:
        for name, triple in comparison.rates.get(system.title, {}).items():
            one = differences.get(system.title)
            against = [one.first, *one.rates[name], _blank(one.p_value)] if one else [""] * 5
            seeds = " ".join(map(str, system.seeds))
            writer.writerow([system.title, seeds, name, comparison.counts[name], *triple, *against])
    return out.getvalue()


def rate_rows(comparison: Comparison) -> list[list[str]]:
    """Header and rows: tag, prompts, the share of right picks per run in %."""
    head = ["right picks, %", "prompts", *(_titled(system.title, system.seeds) for system in comparison.systems)]
    return [head] + [
        [name, str(count), *(_rate(comparison.rates[system.title][name]) for system in comparison.systems)]
        for name, count in comparison.counts.items()
    ]


def difference_rows(comparison: Comparison) -> list[list[str]]:
    """Header and rows: tag, then what each run has over the first in points, paired."""
    head = ["difference, points", *(f"{one.second} less {one.first}" for one in comparison.differences)]
    return [head] + [
        [name, *(_difference(one.rates[name]) for one in comparison.differences)] for name in comparison.counts
    ]


def test_sentence(one: Difference) -> str:
    """McNemar's counts and p-value, or why there is none."""
    counts = f"{one.second} alone is right on {one.only_second} prompts, {one.first} alone on {one.only_first}"
    if one.p_value is None:
        return f"{counts}, as means over seeds (McNemar's test needs one seed per run; the intervals draw seeds too)"
    return f"{counts} (McNemar's exact test: p = {one.p_value:.2g})"


def _scope(comparison: Comparison) -> str:
    names = ", ".join(_titled(system.title, system.seeds) for system in comparison.systems)
    judged = comparison.counts.get("mean over prompts", 0)
    text = f"{names}: {len(comparison.prompts)} prompts in common, {judged} judged in every run"
    return f"{text}; PARTIAL: a run is not finished" if comparison.partial else text


def _titled(title: str, seeds: Sequence[int]) -> str:
    return f"{title} ({len(seeds)} seeds)" if len(seeds) > 1 else title


def _rate(triple: Triple) -> str:
    value, low, high = (100 * one for one in triple)
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def _difference(triple: Triple) -> str:
    value, low, high = (round(100 * one, 1) + 0.0 for one in triple)  # + 0.0: no "-0.0"
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def _blank(value: float | None) -> float | str:
    return "" if value is None else value


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """For a terminal: the first column to the left, the others to the right, a line under the header."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _table(rows: Sequence[Sequence[str]], escape: Callable[[str], str], between: str, end: str) -> list[str]:
    return [between.join(map(escape, row)) + end for row in rows]


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Header and rows as Markdown."""
    lines = [f"| {line} |" for line in _table(rows, markdown_text, " | ", "")]
    return "\n".join([lines[0], "|---" + "|---:" * (len(rows[0]) - 1) + "|", *lines[1:]])


def markdown_text(text: str) -> str:
    """Text that Markdown shows as it stands."""
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|" else letter for letter in text)


def tabular(rows: Sequence[Sequence[str]], rules: int | None = None) -> str:
    """Header and rows as LaTeX that needs booktabs: a rule after every `rules` rows, or before the last two."""
    head, *body = _table(rows, latex_text, " & ", r" \\")
    cuts = range(rules, len(body), rules) if rules else [len(body) - 2]
    middle = [head, r"\midrule"]
    for start, line in enumerate(body):
        middle += [r"\midrule"] * (start in cuts) + [line]
    columns = "l" + "r" * (len(rows[0]) - 1)
    return "\n".join([rf"\begin{{tabular}}{{{columns}}}", r"\toprule", *middle, r"\bottomrule", r"\end{tabular}"])


def latex_text(text: str) -> str:
    """Text whose special characters print as themselves."""
    return "".join(LATEX.get(letter, letter) for letter in text)
