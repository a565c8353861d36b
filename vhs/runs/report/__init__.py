"""report.html and the figures of a run, from its folder alone."""

from __future__ import annotations

from pathlib import Path


def report(root: str | Path, figures: Path | None = None) -> Path:
    """Writes `<root>/report.html` and, where `figures` names a folder, each figure as PNG and PDF; returns the page.

    Raises RunError for a folder that is no run. An interrupted run's page says what is missing.
    """
    from vhs.runs.report.data import read_run
    from vhs.runs.report.page import write_report
    from vhs.runs.report.summary import save_figures

    page = write_report(root)
    if figures is not None:
        save_figures(read_run(root), figures)
    return page
