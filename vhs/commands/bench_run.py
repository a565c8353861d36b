"""`vhs benchmark run`."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vhs.errors import ConfigError

COLUMNS = {"verifier": "verifier", "part": "part", "num_samples": "N", "batch_size": "batch", "median_ms": "median ms",
           "p5_ms": "5 %", "p95_ms": "95 %", "candidates_per_second": "candidates/s", "tflop": "TFLOP",
           "mfu": "FLOPs utilisation", "candidates_mfu": "of candidates alone", "peak_bytes": "peak bytes"}  # fmt: skip
BUDGET_COLUMNS = {"verifier": "verifier", "budget_ms": "budget ms", "num_samples": "largest N",
                  "milliseconds": "ms at N",
                  "one_ms": "ms of one", "ms_per_candidate": "ms a further candidate"}  # fmt: skip
WITHOUT_COLUMNS = {"verifier": "verifier", "without": "without", "num_samples": "N", "with_ms": "with, ms",
                   "without_ms": "without, ms", "ratio": "times as long", "ratio_p5": "5 %", "ratio_p95": "95 %",
                   "with_peak_bytes": "peak bytes with", "without_peak_bytes": "without",
                   "largest_score_difference": "scores differ by"}  # fmt: skip
BUDGET = re.compile(r"(\d+(?:\.\d+)?)(ms|s)?")


def add_arguments(one: argparse.ArgumentParser) -> None:
    """The arguments of `vhs benchmark run`."""
    one.add_argument("--config", required=True, help="YAML of what is measured, in configs/bench/")
    one.add_argument("--random-weights", action="store_true", help="models of the architectures, without a download")
    what = one.add_mutually_exclusive_group()
    what.add_argument("--flops", action="store_true", help="count FLOPs and bytes on the meta device; nothing runs")
    what.add_argument("--budget", nargs="+", metavar="MS", help="largest N within each budget, such as 550ms or 1.65s")
    what.add_argument("--profile", metavar="FOLDER", help="time by stage, and a trace for Perfetto in that folder")
    what.add_argument(
        "--without", nargs="*", metavar="NAME", help="with each of our optimisations against without it (default: all)"
    )
    one.add_argument("overrides", nargs="*", metavar="key=value", help="keys that replace the file's")


def collect_overrides(parser: argparse.ArgumentParser, args: argparse.Namespace, rest: Sequence[str]) -> None:
    """Puts key=value words that argparse leaves over between options, or takes for an option's, where they belong."""
    lists = [name for name in ("budget", "without") if getattr(args, name, None)]
    words = [*rest, *(word for name in lists for word in getattr(args, name))]
    overrides = [word for word in words if "=" in word and not word.startswith("-")]
    if unknown := [word for word in rest if word not in overrides or not hasattr(args, "overrides")]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if overrides:
        args.overrides = [*args.overrides, *overrides]
        for name in lists:
            setattr(args, name, [word for word in getattr(args, name) if word not in overrides])


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measures, writes files, and returns what the last line says."""
    from vhs.config.yamlfile import load
    from vhs.measure.config import BenchConfig

    budgets = [milliseconds(text) for text in args.budget or ()]
    given = [*args.overrides, *(["random_weights=true"] if args.random_weights else [])]
    config = load(BenchConfig, args.config, given)
    if args.flops:
        return _count(args, config)
    if config.part:
        return _parts(args, config)
    if budgets:
        return _budgets(args, config, budgets)
    if args.without is not None:
        return _without(args, config)
    return _profile(args, config) if args.profile else _measure(args, config)


def milliseconds(text: str) -> float:
    """Of `550ms`, `1.65s` or `550`. Raises ConfigError."""
    found = BUDGET.fullmatch(text)
    if not found or not float(found[1]):
        raise ConfigError(f"--budget: {text!r} is no time; 550ms or 1.65s is right")
    return float(found[1]) * (1000 if found[2] == "s" else 1)


def _measure(args: argparse.Namespace, config: Any) -> dict[str, Any]:
    from vhs.measure.bench import machine, measure
    from vhs.measure.write import as_table

    rows, facts = measure(config, _say), machine(config)
    return _written(args, config, config.name, f"Best-of-N: {config.name}", facts, rows, as_table(rows, _shown(rows)))


def _parts(args: argparse.Namespace, config: Any) -> dict[str, Any]:
    from vhs.measure.bench import machine
    from vhs.measure.parts import measure_part
    from vhs.measure.write import as_table

    rows, facts = measure_part(config, _say), machine(config)
    return _written(args, config, config.name, f"One model: {config.name}", facts, rows, as_table(rows, _shown(rows)))


def _budgets(args: argparse.Namespace, config: Any, budgets: Sequence[float]) -> dict[str, Any]:
    from vhs.measure.bench import machine, spent
    from vhs.measure.write import as_table

    rows, facts = spent(config, budgets), machine(config)
    table, title = as_table(rows, BUDGET_COLUMNS), f"What a budget buys: {config.name}"
    return _written(args, config, f"{config.name}_budget", title, facts, rows, table)


def _without(args: argparse.Namespace, config: Any) -> dict[str, Any]:
    from vhs.measure.bench import machine
    from vhs.measure.optimisations import OPTIMISATIONS, measure_without
    from vhs.measure.write import as_table

    rows, facts = measure_without(config, args.without, _say), machine(config)
    about = [f"- `{name}`: {OPTIMISATIONS[name].about}" for name in dict.fromkeys(row["without"] for row in rows)]
    text = "\n".join([as_table(rows, WITHOUT_COLUMNS), "", *about])
    return _written(
        args, config, f"{config.name}_without", f"What each optimisation saves: {config.name}", facts, rows, text
    )


def _count(args: argparse.Namespace, config: Any) -> dict[str, Any]:
    from vhs.device import resolve_dtype
    from vhs.measure import paper
    from vhs.measure.write import as_table

    facts = {"device": "meta", "dtype": resolve_dtype(config.dtype, "meta")}
    if config.part:
        from vhs.measure.parts import count_part

        rows, title = count_part(config, _say), f"FLOPs and memory of one model: {config.name}"
        text = as_table(rows, _shown(rows))
    else:
        rows, title = paper.count(config, _say), f"FLOPs and memory of one prompt: {config.name}"
        facts["micro_batch"] = config.at_once
        text = paper.markdown(rows)
    return _written(args, config, f"{config.name}_flops", title, facts, rows, text)


def _profile(args: argparse.Namespace, config: Any) -> dict[str, Any]:
    from vhs.measure.bench import machine, methods
    from vhs.measure.profile import profile, require_writable
    from vhs.measure.write import as_table
    from vhs.records import Prompt

    folder, count, rows = Path(args.profile), config.num_samples[-1], []
    require_writable(folder)
    for label, method in methods(config):
        trace = folder / f"{config.name}_{label}.json"
        found = profile(method, Prompt(0, config.prompt), count, config.repeats, trace)
        rows.append({"verifier": label, "num_samples": count, **found})
    stages = {f"stages_ms.{name}": name for row in rows for name in row["stages_ms"]}
    columns = {"verifier": "verifier", "num_samples": "N", "whole_ms": "whole, ms", **stages, "other_ms": "other"}
    title, facts = f"Where the time goes: {config.name}", machine(config)
    return _written(args, config, f"{config.name}_profile", title, facts, rows, as_table(rows, columns))


def _written(
    args: argparse.Namespace, config: Any, name: str, title: str, facts: Any, rows: Any, table: str
) -> dict[str, Any]:
    from vhs.measure.write import page, write

    files = write(Path(config.output_path), name, facts, rows, page(title, _command(args), facts, table))
    print(f"{table}\n\n{', '.join(map(str, files))}")
    return {"stage": "run", "name": config.name, **facts, "rows": rows}


def _command(args: argparse.Namespace) -> str:
    """What to type for the same figures, wherever they are written."""
    flags = [f"--{name.replace('_', '-')}" for name in ("random_weights", "flops") if getattr(args, name)]
    flags += ["--budget", *args.budget] if args.budget else []
    flags += ["--without", *args.without] if args.without is not None else []
    flags += ["--profile", args.profile] if args.profile else []
    keys = [word for word in args.overrides if not word.startswith("output_path=")]
    return " ".join(["vhs benchmark run --config", args.config, *flags, *keys])


def _shown(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    return {key: head for key, head in COLUMNS.items() if any(row.get(key) is not None for row in rows)}


def _say(line: str) -> None:
    print(line, file=sys.stderr)
