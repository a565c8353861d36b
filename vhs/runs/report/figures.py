"""Figures of a run and of several: drawn once with matplotlib, for files (PNG, PDF) and for the page (SVG)."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from vhs.files import write_bytes

INK, MUTED, GRID, PAPER = "#1f2329", "#69707a", "#dfe3e8", "#fffffe"
PICK, ORACLE, RIGHT, WRONG = "#c77700", "#0068a8", "#0a8f68", "#d0551b"
THEME = {INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper"} | {
    PICK: "pick",
    ORACLE: "oracle",
    RIGHT: "right",
    WRONG: "wrong",
}
"""The page replaces these colours by its own variables, so that a figure follows light and dark."""
CYCLE = ("#c77700", "#0068a8", "#0a8f68", "#8a4fb0", "#b03060", "#69707a")
"""One colour per run in figures of several runs."""
STYLE = {
    "font.size": 9,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "vhs",
    "pdf.fonttype": 42,
}
PERCENT = FuncFormatter(lambda value, _: f"{100 * value:.0f} %")


def _canvas(left: float = 0.15) -> tuple[Figure, Axes]:
    """4.6 x 3 inches with margins of its own: a layout engine draws every figure three times."""
    figure = Figure(figsize=(4.6, 3.0))
    FigureCanvasAgg(figure)
    return figure, figure.add_axes((left, 0.16, 0.98 - left, 0.8))


@matplotlib.rc_context(STYLE)
def curve_figure(curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Best-of-n over n, of one run or of several by name; shaded: 95 %. Oracle and mean are the first run's."""
    figure, axes = _canvas()
    first = next(iter(curves.values()))
    single = len(curves) == 1
    for (name, rows), color in zip(curves.items(), CYCLE * (1 + len(curves) // len(CYCLE)), strict=False):
        ns = [row["n"] for row in rows]
        value, low, high = np.array([row["pick"] for row in rows]).T
        axes.fill_between(ns, low, high, color=color, alpha=0.15, linewidth=0)
        axes.plot(ns, value, color=color, linewidth=2, label="the verifier's pick" if single else name)
    ns = [row["n"] for row in first]
    axes.plot(ns, [row["oracle"][0] for row in first], color=ORACLE if single else INK, linestyle="--", label="oracle")
    axes.plot(ns, [row["mean"][0] for row in first], color=MUTED, linestyle=":", label="one candidate (mean)")
    ticks = [n for n in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512) if n <= ns[-1]]
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(n) for n in ticks], minor=False)
    axes.minorticks_off()
    axes.set_xlabel("candidates n")
    axes.set_ylabel("right pictures")
    axes.yaxis.set_major_formatter(PERCENT)
    axes.legend(loc="best", fontsize=8)
    return figure


@matplotlib.rc_context(STYLE)
def distribution_figure(found: Mapping[str, Any]) -> Figure:
    """Score histogram: right candidates above the axis, wrong ones below, in shares of all candidates."""
    figure, axes = _canvas()
    edges = np.array(found["edges"])
    middle, width = (edges[:-1] + edges[1:]) / 2, (edges[1] - edges[0]) * 0.9
    axes.bar(middle, found["right"], width, color=RIGHT, label="right")
    axes.bar(middle, -np.array(found["wrong"]), width, color=WRONG, label="wrong")
    axes.axhline(0, color=MUTED, linewidth=0.8)
    axes.grid(axis="x", visible=False)
    axes.set_xlabel("score")
    axes.set_ylabel("share of all candidates")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * abs(value):.0f} %"))
    axes.legend(loc="best", fontsize=8)
    return figure


@matplotlib.rc_context(STYLE)
def calibration_figure(found: Mapping[str, Any]) -> Figure:
    """Share of right candidates over p(yes); bars: Wilson's 95 %, the diagonal: perfect calibration."""
    figure, axes = _canvas()
    bins = [one for one in found["bins"] if one["count"]]
    p, right = (np.array([one[key] for one in bins]) for key in ("mean_p", "right"))
    below, above = (np.array([one[key] for one in bins]) for key in ("below", "above"))
    count = np.array([one["count"] for one in bins])
    axes.plot([0, 1], [0, 1], color=MUTED, linestyle=":", linewidth=1)
    # Wilson's bounds meet a share of 0 or 1 up to a rounding error, which must not make a bar negative.
    bars = np.maximum([right - below, above - right], 0)
    axes.errorbar(p, right, bars, color=PICK, linewidth=1.2, fmt="none")
    axes.scatter(p, right, 12 + 140 * count / count.max(), color=PICK, linewidths=0, zorder=3)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("p(yes), given yes or no")
    axes.set_ylabel("right candidates")
    axes.yaxis.set_major_formatter(PERCENT)
    return figure


@matplotlib.rc_context(STYLE)
def cost_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Median milliseconds per prompt and stage; grey stages belong to the experiment and not to the method."""
    figure, axes = _canvas()
    names = [row["stage"] for row in rows]
    spent = [row["ms"] for row in rows]
    axes.barh(names, spent, 0.62, color=[GRID if name in ("judge", "save") else ORACLE for name in names])
    for row in rows:
        axes.annotate(
            f"{row['ms']:.3g}", (row["ms"], row["stage"]), (4, 0), textcoords="offset points", va="center", fontsize=8
        )
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.14)
    axes.set_xlabel("ms per prompt (median)")
    return figure


@matplotlib.rc_context(STYLE)
def quality_over_cost_figure(lines: Mapping[str, Sequence[tuple[float, float, int]]], unit: str) -> Figure:
    """The paper's Figure 5: right pictures over the cost of a prompt, a line per run of points (cost, rate, n)."""
    figure, axes = _canvas()
    for (name, points), color in zip(lines.items(), CYCLE * (1 + len(lines) // len(CYCLE)), strict=False):
        cost, rate, _ = zip(*points, strict=True)
        axes.plot(cost, rate, color=color, linewidth=2, marker="o", markersize=4, label=name)
    for cost, rate, n in next(iter(lines.values())):
        axes.annotate(str(n), (cost, rate), (0, 6), textcoords="offset points", ha="center", fontsize=7)
    axes.margins(y=0.12)
    axes.set_xlabel(unit)
    axes.set_ylabel("right pictures")
    axes.yaxis.set_major_formatter(PERCENT)
    axes.legend(loc="best", fontsize=8)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Writes `<path>.png` (200 dpi) and `<path>.pdf`, the same bytes for the same figure."""
    for suffix, keywords in (
        ("png", {"dpi": 200, "metadata": {"Software": None}}),
        ("pdf", {"metadata": {"CreationDate": None, "Creator": None, "Producer": None}}),
    ):
        stream = io.BytesIO()
        with matplotlib.rc_context(STYLE):
            figure.savefig(stream, format=suffix, **keywords)
        write_bytes(path.with_name(f"{path.name}.{suffix}"), stream.getvalue())


def themed_svg(figure: Figure, label: str) -> str:
    """The figure as an inline SVG element whose colours are the page's variables; `label` is read to the blind."""
    stream = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": label}):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = stream.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    for color, name in THEME.items():
        svg = svg.replace(color, f"var(--{name})")
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]+", r"font-size: \1px", svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{_attribute(label)}" ', 1)


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
