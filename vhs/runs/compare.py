"""Runs over the same prompts: paired differences, or, of a dev run and its prod twin, what the early exit saved."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vhs.errors import RunError
from vhs.files import read_form, write_bytes
from vhs.runs.forms import Annotation, Summary, Timings
from vhs.runs.report.compare_tables import as_csv, as_latex, as_markdown, as_text
from vhs.runs.report.data import RunData, read_run, run_folders
from vhs.runs.report.paired import OF_ONE_RUN, compare_runs, read_costs

TWINS = "dev finishes and judges every candidate, prod only the winner: the same choice, at the method's own cost"
GENERATION = ("encode", "prefix", "generate", "score", "finish", "decode")
"""Stages that make a picture; saving and judging are the experiment's, not the method's."""


def compare(folders: Sequence[str | Path], out: Path | None = None, costs: Path | None = None) -> str:
    """The text for two or more run folders, each against the first; a folder of seeds stands for its runs.

    A run in dev and the same one in prod are answered with `early_exit`. `out` is a folder for compare.html, .csv, .md,
    .tex and the figures; the last line is then the page's path. `costs` is a JSON file of further costs
    (`read_costs`). Raises RunError where runs do not go together.
    """
    folders = [one for folder in folders for one in run_folders(folder)]
    if len(folders) < 2:
        raise RunError(f"{folders[0] if folders else 'nothing'}: one run alone; give the folders of two or more")
    runs = [read_run(folder) for folder in folders]
    comparison = compare_runs(runs)
    twins = _twins(runs)
    text = early_exit(*twins) if twins else as_text(comparison)
    if out is None:
        return text
    from vhs.runs.report.compare_page import compare_page, drawn
    from vhs.runs.report.figures import save_figure

    further = read_costs(costs) if costs else {}
    made = {"html": compare_page(comparison, further), "csv": as_csv(comparison)}
    made |= {"md": as_markdown(comparison), "tex": as_latex(comparison)}
    for suffix, content in made.items():
        write_bytes(out / f"compare.{suffix}", content.encode())
    for one in drawn(comparison, further):
        save_figure(one["figure"], out / one["name"])
    return f"{text}\n\n{out / 'compare.html'}"


def _twins(runs: Sequence[RunData]) -> tuple[Path, Path] | None:
    """The folders of (dev, prod) where these are one finished run in both modes."""
    if len(runs) != 2 or {run.table.mode for run in runs} != {"dev", "prod"} or any(run.partial for run in runs):
        return None
    ignored = OF_ONE_RUN - {"seed"} | {"generation_mode"}
    kept = [{key: value for key, value in run.config.items() if key not in ignored} for run in runs]
    dev, prod = sorted(runs, key=lambda run: run.table.mode)
    return (dev.root, prod.root) if kept[0] == kept[1] else None


def early_exit(dev: Path, prod: Path) -> str:
    """Whether two finished runs have the same winners, and what the second saved, from annotations and timings."""
    first, second = winners(dev), winners(prod)
    if first.keys() != second.keys():
        raise RunError(
            f"{prod}: {len(second)} prompts where {dev} has {len(first)}; compare runs over the same prompts"
        )
    differ = [prompt for prompt in first if first[prompt] != second[prompt]]
    same = f"winners: the same for {len(first) - len(differ)} of {len(first)} prompts"
    if differ:
        same += f" (other ones: {', '.join(differ[:5])})"
    times = _timings(dev), _timings(prod)
    closing = [*_shares(dev), faster(*times), str(dev / "report.html")]
    return "\n\n".join([TWINS, same, savings(*times), "\n".join(closing)])


def _shares(dev: Path) -> list[str]:
    """One candidate, pick and perfect pick of a dev run that was judged, in one line."""
    overall = read_form(dev / "summary.json", Summary)["overall"].get("overall_prompts")
    if not overall or not overall["oracle"]:
        return []
    single, pick, oracle = (
        f"{100 * overall[name]['value']:.1f} %" for name in ("mean_of_candidates", "pick", "oracle")
    )
    return [f"right pictures: one candidate {single}, the verifier's pick {pick}, a perfect pick {oracle}"]


def winners(root: Path) -> dict[str, int]:
    """Prompt folder -> winning candidate."""
    files = sorted(root.glob("gen_eval_*/best_annotations_proc_*.json"))
    rows = [row for file in files for row in read_form(file, list[Annotation])]
    if not rows:
        raise RunError(f"{root}: no best_annotations_proc_*.json; finish the run first")
    return {Path(row["filename"]).parts[-3]: row["gen_idx_gt"] for row in sorted(rows, key=lambda row: row["filename"])}


def savings(dev: Mapping[str, Any], prod: Mapping[str, Any]) -> str:
    """A table of stages: milliseconds a prompt (the median, which a slow first one does not move), items in all."""
    names = [name for name in (*GENERATION, "judge", "save") if name in dev["stages"] or name in prod["stages"]]
    lines = [f"{'ms a prompt':14}{'dev':>24}{'prod':>24}"]
    lines += [f"{name:14}{_cell(dev, name):>24}{_cell(prod, name):>24}" for name in names]
    before, after = milliseconds(dev, GENERATION), milliseconds(prod, GENERATION)
    lines.append(f"{'to the winner':14}{before:24.1f}{after:24.1f}")
    late = [
        f"{name} {count(prod, name)} instead of {count(dev, name)}" for name in ("finish", "decode") if count(dev, name)
    ]
    lines.append(f"\ncandidates that went through: {', '.join(late)}")
    return "\n".join(lines)


def faster(dev: Mapping[str, Any], prod: Mapping[str, Any]) -> str:
    """What the early exit saved of a prompt's time to its winner."""
    before, after = milliseconds(dev, GENERATION), milliseconds(prod, GENERATION)
    ratio = f"{before / after:.2f} times as fast" if after and before > after else "no time saved in this measurement"
    return f"the early exit: {ratio} to a prompt's winner ({before - after:+.1f} ms)"


def milliseconds(run: Mapping[str, Any], names: tuple[str, ...]) -> float:
    """The median over prompts of the time that these stages took together."""
    spent = [sum(stages[name]["seconds"] for name in names if name in stages) for stages in run["prompts"].values()]
    return 1000 * statistics.median(spent) if spent else 0.0


def count(run: Mapping[str, Any], name: str) -> int:
    """How many prompts or candidates went through a stage."""
    return run["stages"].get(name, {}).get("items", 0)


def _timings(root: Path) -> dict[str, Any]:
    file = root / "timings.json"
    if not file.is_file():
        raise RunError(f"{file}: missing; finish the run first")
    return read_form(file, Timings)


def _cell(run: Mapping[str, Any], name: str) -> str:
    return f"{milliseconds(run, (name,)):.1f} for {count(run, name)}" if name in run["stages"] else "-"
