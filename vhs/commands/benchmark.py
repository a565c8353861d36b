"""`vhs benchmark`."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vhs.commands import bench_run


def benchmark(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """What a run or a stage costs on this machine. The last line of output is one JSON object.

    vhs benchmark run --config configs/bench/tiny.yaml
    vhs benchmark run --config configs/bench/sana_sprint_1.6b.yaml --random-weights
    vhs benchmark run --config configs/bench/sana_sprint_1.6b.yaml --flops
    vhs benchmark run --config configs/bench/tiny.yaml --budget 550ms 1100ms 1650ms
    vhs benchmark run --config configs/bench/tiny.yaml --profile outputs/profile
    vhs benchmark judge --config configs/tiny.yaml
    vhs benchmark judge --random-weights --device cuda
    vhs benchmark judge --random-weights --detectors mmdet transformers    (in .venv-mmdet)
    vhs benchmark memory --candidates 32
    vhs benchmark stop --run outputs/tiny --out outputs/benchmarks    (a run in dev)
    """
    stages = parser.add_subparsers(required=True, metavar="stage")
    one = stages.add_parser("run", help="best-of-N per verifier and N: latency, FLOPs, memory, utilisation")
    one.set_defaults(measure=bench_run.run)
    bench_run.add_arguments(one)
    one = stages.add_parser("judge", help="GenEval: detector, colours and rules")
    one.set_defaults(measure=_judge)
    one.add_argument("--config", default="configs/tiny.yaml", help="YAML with the judge's keys (default: %(default)s)")
    one.add_argument("--random-weights", action="store_true", help="GenEval's own models with random weights instead")
    one.add_argument("--detectors", nargs="+", choices=("transformers", "mmdet"), default=["transformers"])
    one.add_argument("--pictures", type=int, default=64)
    one.add_argument("--side", type=int, help="pixels (default: 1024, or the configuration's test size)")
    one.add_argument("--repeats", type=int, default=3)
    one.add_argument("--device", default="auto")
    one = stages.add_parser(
        "memory", help="peak memory of the published models per offload setting, counted on the meta device"
    )
    one.set_defaults(measure=_memory)
    one.add_argument("--candidates", type=int, default=32, help="N of best-of-N (default: %(default)s)")
    one.add_argument("--micro-batch", type=int, default=8, help="candidates at once (default: %(default)s)")
    one.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    one = stages.add_parser("stop", help="stop_when: quality against average cost, from a finished run in dev")
    one.set_defaults(measure=_stop)
    one.add_argument("--run", required=True, metavar="FOLDER", help="a run whose candidates are all scored and judged")
    one.add_argument("--out", metavar="FOLDER", help="where stop_when.md and stop_when.png are written")
    arguments, rest = parser.parse_known_args(words)
    bench_run.collect_overrides(parser, arguments, rest)
    import torch

    print(json.dumps({**arguments.measure(arguments), "torch": torch.__version__, "machine": platform.machine()}))


def _judge(args: argparse.Namespace) -> dict[str, Any]:
    """Pictures per second of GenEval, per detector library."""
    from vhs.device import resolve_device
    from vhs.geneval.spec import judge_config, resolve_judge
    from vhs.measure.judge import measure, random_judges, smooth_pictures

    if args.random_weights:
        device, side = resolve_device(args.device), args.side or 1024
        judges = random_judges(args.detectors, device)
    else:
        config = judge_config(Path("."), args.config, [f"device={args.device}"])
        device, side = resolve_device(config.device), args.side or min(config.detector_size)
        specs = {name: resolve_judge(config.model_copy(update={"detector": name}), device) for name in args.detectors}
        judges = {name: spec.fetched().load() for name, spec in specs.items()}
    pictures = smooth_pictures(args.pictures, side)
    figures = {}
    for name, one in judges.items():
        figures[name] = measure(one, pictures, args.repeats)
        print(f"{name}: {figures[name]}", file=sys.stderr)
    return {"stage": "judge", "device": device, "side": side, "random_weights": args.random_weights, **figures}


def _memory(args: argparse.Namespace) -> dict[str, Any]:
    """Peak memory of one prompt with the published models, per `offload` setting, counted without a GPU."""
    from vhs.measure.published import report

    figures = report(args.candidates, args.micro_batch, args.dtype)
    print(f"weights, GiB: {figures['weights']}", file=sys.stderr)
    print(f"{'GiB':10}{'tensors':>10}{'offload: none':>16}{'offload: model':>16}", file=sys.stderr)
    for name, row in figures["stages"].items():
        print(f"{name:10}{row['tensors']:10.2f}{row['none']:16.2f}{row['model']:16.2f}", file=sys.stderr)
    settings = {"candidates": args.candidates, "micro_batch": args.micro_batch, "dtype": args.dtype}
    return {"stage": "memory", **settings, **figures}


def _stop(args: argparse.Namespace) -> dict[str, Any]:
    """What an adaptive number of candidates buys, by threshold, and the same budget spread over prompts."""
    from vhs.errors import RunError
    from vhs.files import write_bytes
    from vhs.measure import stopping
    from vhs.runs.report.analysis import judged
    from vhs.runs.report.data import read_run

    found = read_run(args.run)
    table = judged(found.table)
    if not len(table.scores) or table.scores.shape[1] < 2:
        raise RunError(
            f"{args.run}: has no prompt with several candidates that are all scored and judged; run it in dev"
        )
    rows = stopping.costs(table)
    text = stopping.markdown(rows)
    print(text)
    if args.out:
        from vhs.measure.write import page
        from vhs.runs.report.figures import quality_over_cost_figure, save_figure

        facts = {"prompts": len(table.scores), "candidates": table.scores.shape[1], "orders": stopping.ORDERS}
        body = f"{text}\n\n![Right picks over the candidates spent](stop_when.png)"
        command = f"vhs benchmark stop --run {args.run}"
        write_bytes(Path(args.out, "stop_when.md"), page("Adaptive N", command, facts, body).encode())
        figure = quality_over_cost_figure(stopping.lines(rows), "candidates of a prompt, on average")
        save_figure(figure, Path(args.out, "stop_when"))
    return {"stage": "stop", "run": found.name, "rows": rows}
