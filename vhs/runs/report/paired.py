"""Several runs over the same prompts: rates, paired differences, McNemar's test, and what a prompt costs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vhs.config.run import RunConfig
from vhs.errors import RunError
from vhs.geneval.summary import wilson
from vhs.records import TAGS, Prompt
from vhs.runs.report.analysis import RESAMPLES, curve, judged, prompt_draws, stage_costs
from vhs.runs.report.data import RunData

OF_ONE_RUN = {*RunConfig.keys_where(results=False), "name", "seed", "output_path"}
"""Keys that may differ between the runs of one system."""
OVER_TAGS, OVER_PROMPTS = "mean over tags", "mean over prompts"
Triple = tuple[float, float, float]
"""(value, low, high): a rate or a difference of rates and its 95 % interval."""


@dataclass(frozen=True)
class System:
    """One or several runs that differ in nothing but their seed."""

    title: str
    runs: Sequence[RunData]

    @property
    def seeds(self) -> list[int]:
        """One per run."""
        return [run.config["seed"] for run in self.runs]


@dataclass(frozen=True)
class OverSeeds:
    """A system's rate of right picks over its seeds, from 0 to 1.

    `mean` of the seeds' rates and their standard deviation (of a sample; None for one seed), the 95 % interval over
    prompts and seeds, and each seed's rate in the order of the system.
    """

    mean: float
    deviation: float | None
    low: float
    high: float
    by_seed: tuple[float, ...]


@dataclass(frozen=True)
class Difference:
    """What `second` has over `first`, on the same prompts and seeds.

    `rates` has the rows of the table; `only_first` and `only_second` count prompts where one pick alone is right, and
    `p_value` is McNemar's exact one from them, None with several seeds: pairs of one prompt are not independent.
    """

    first: str
    second: str
    rates: Mapping[str, Triple]
    only_first: int
    only_second: int
    p_value: float | None


@dataclass(frozen=True)
class Comparison:
    """Everything that is said of several runs. `rates` and `differences` are empty where picks were not judged."""

    systems: Sequence[System]
    prompts: Sequence[Prompt]
    counts: Mapping[str, int]
    rates: Mapping[str, Mapping[str, Triple]]
    differences: Sequence[Difference]
    partial: bool

    @property
    def runs(self) -> list[RunData]:
        """Every run, in the order of the systems."""
        return [run for system in self.systems for run in system.runs]


def compare_runs(runs: Sequence[RunData]) -> Comparison:
    """Systems in the order in which they were given, each against the first. Raises RunError for other prompts."""
    prompts, known_prompts = common_prompts(runs), judged_prompts(runs)
    grouped = systems(runs)
    tags = _tags(runs[0], known_prompts)
    rows = table_rows(tags)
    counts = {name: tags.count(name) or len(tags) for name in rows}
    partial = any(run.partial for run in runs)
    if not tags:
        return Comparison(grouped, prompts, counts, {}, [], partial)
    verdicts = [_verdicts(system, known_prompts) for system in grouped]
    draws = prompt_draws(tags)
    seeds = seed_draws(grouped)
    drawn = [_rates(one, tags, draws, luck) for one, luck in zip(verdicts, seeds, strict=True)]
    known = [_rates(one, tags, np.ones((1, len(tags))), np.ones((1, len(one)))) for one in verdicts]
    rates = {
        system.title: {name: _triple(known[i][name], drawn[i][name]) for name in rows}
        | (_tag_rates(verdicts[i][0], tags) if len(system.runs) == 1 else {})
        for i, system in enumerate(grouped)
    }
    differences = [
        Difference(
            grouped[0].title,
            grouped[i].title,
            {name: _triple(known[i][name] - known[0][name], drawn[i][name] - drawn[0][name]) for name in rows},
            *_discordant(verdicts[0], verdicts[i]),
        )
        for i in range(1, len(grouped))
    ]
    return Comparison(grouped, prompts, counts, rates, differences, partial)


def over_seeds(system: System) -> dict[str, OverSeeds]:
    """Row of the table (tags in GenEval's order, then OVER_TAGS, OVER_PROMPTS) -> the system's rate over its seeds.

    Empty where no pick was judged. One seed's tags have Wilson's interval, as in its own summary; so have those whose
    picks were all right or all wrong, of which a bootstrap draws nothing else. Raises RunError for runs over different
    prompts.
    """
    prompts = judged_prompts(system.runs)
    if not prompts:
        return {}
    verdicts, tags = _verdicts(system, prompts), _tags(system.runs[0], prompts)
    drawn = _rates(verdicts, tags, prompt_draws(tags), seed_draws([system])[0])
    by_seed = _rates(verdicts, tags, np.ones((1, len(tags))), np.eye(len(verdicts)) * len(verdicts))
    exact = _tag_rates(verdicts.mean(axis=0), tags)
    found = {}
    for name in table_rows(tags):
        rates = by_seed[name]
        low, high = np.quantile(drawn[name], [0.025, 0.975])
        if name in exact and (len(verdicts) == 1 or low == high):
            low, high = exact[name][1:]
        deviation = float(rates.std(ddof=1)) if len(rates) > 1 else None
        found[name] = OverSeeds(float(rates.mean()), deviation, float(low), float(high), tuple(rates.tolist()))
    return found


def judged_prompts(runs: Sequence[RunData]) -> list[Prompt]:
    """The prompts that every run has completed and whose pick is judged in all. Raises RunError as `common_prompts`."""
    return [
        prompt
        for prompt in common_prompts(runs)
        if all(_pick(run, prompt.id).get("correct") is not None for run in runs)
    ]


def table_rows(tags: Sequence[str]) -> list[str]:
    """The rows of a table over prompts of these tags."""
    order = [tag for tag in (*TAGS, *dict.fromkeys(tags)) if tag in tags]
    return [*dict.fromkeys(order), OVER_TAGS, OVER_PROMPTS] if tags else []


def common_prompts(runs: Sequence[RunData]) -> list[Prompt]:
    """The prompts that every run has completed. Raises RunError, naming the run, where they are not the same ones."""
    first, *others = runs
    texts = {prompt.id: prompt.text for prompt in first.table.prompts}
    for run in others:
        if run.expected != first.expected:
            raise RunError(
                f"{run.root}: {run.expected} prompts where {first.root} has {first.expected}; "
                "compare runs over the same prompts"
            )
        for prompt in run.table.prompts:
            if texts.get(prompt.id, prompt.text) != prompt.text:
                raise RunError(
                    f"{run.root}: prompt {prompt.id} is {prompt.text!r} where {first.root} has "
                    f"{texts[prompt.id]!r}; compare runs over the same prompts"
                )
    shared = set.intersection(*({prompt.id for prompt in run.table.prompts} for run in runs))
    if not shared:
        raise RunError(f"{runs[-1].root}: no complete prompt in common with {first.root}; finish the runs first")
    return [prompt for prompt in first.table.prompts if prompt.id in shared]


def systems(runs: Sequence[RunData]) -> list[System]:
    """Runs by what they are, titled with their own names; all apart where nothing but the seed differs between them."""
    groups: dict[str, list[RunData]] = {}
    for run in runs:
        config = {key: value for key, value in run.config.items() if key not in OF_ONE_RUN}
        groups.setdefault(json.dumps([config, run.manifest.get("checkpoints")], sort_keys=True), []).append(run)
    grouped = list(groups.values())
    if len(grouped) == 1 or any(len({run.config["seed"] for run in one}) < len(one) for one in grouped):
        grouped = [[run] for run in runs]
    titles = [_title(one) for one in grouped]
    if len(set(titles)) < len(titles):
        titles = [str(one[0].root) for one in grouped]
    return [System(title, one) for title, one in zip(titles, grouped, strict=True)]


def _title(runs: Sequence[RunData]) -> str:
    """A run's name; of several what their names have in common."""
    if len(runs) == 1:
        return runs[0].name
    names = [run.name for run in runs]
    length = next(
        (i for i, letters in enumerate(zip(*names, strict=False)) if len(set(letters)) > 1), min(map(len, names))
    )
    return names[0][:length].rstrip("_-.0123456789").removesuffix("seed").rstrip("_-.") or names[0]


def seed_draws(grouped: Sequence[System], resamples: int = RESAMPLES, seed: int = 1) -> list[np.ndarray]:
    """Per system (resamples, seeds): how often each of its seeds is drawn. The same draws where seeds are the same."""
    found: dict[tuple[int, ...], np.ndarray] = {}
    for system in grouped:
        key = tuple(system.seeds)
        if key not in found:
            rng = np.random.default_rng([seed, len(found)])
            found[key] = rng.multinomial(len(key), np.full(len(key), 1 / len(key)), size=resamples).astype(float)
    return [found[tuple(system.seeds)] for system in grouped]


def _pick(run: RunData, prompt_id: int) -> Mapping[str, Any]:
    return run.table.rows[prompt_id][run.table.winners[prompt_id]]


def _tags(run: RunData, prompts: Sequence[Prompt]) -> list[str]:
    return [_pick(run, prompt.id)["tag"] for prompt in prompts]


def _verdicts(system: System, prompts: Sequence[Prompt]) -> np.ndarray:
    """(seeds, prompts): 1 where the pick is right."""
    return np.array([[float(_pick(run, prompt.id)["correct"]) for prompt in prompts] for run in system.runs])


def _rates(verdicts: np.ndarray, tags: Sequence[str], draws: np.ndarray, seeds: np.ndarray) -> dict[str, np.ndarray]:
    """(resamples,) per row of the table, from verdicts (S, P), prompt draws (R, P) and seed draws (R, S)."""
    weighted = draws * (seeds @ verdicts) / len(verdicts)
    names = np.asarray(tags)
    found = {tag: weighted[:, names == tag].sum(axis=1) / (names == tag).sum() for tag in dict.fromkeys(tags)}
    return found | {OVER_TAGS: np.mean(list(found.values()), axis=0), OVER_PROMPTS: weighted.sum(axis=1) / len(names)}


def _tag_rates(verdicts: np.ndarray, tags: Sequence[str]) -> dict[str, Triple]:
    """Tag -> share of right picks of one run with Wilson's interval, as in its own summary."""
    sums = {tag: float(verdicts[np.asarray(tags) == tag].sum()) for tag in dict.fromkeys(tags)}
    return {tag: (right / tags.count(tag), *wilson(right, tags.count(tag))) for tag, right in sums.items()}


def _triple(known: np.ndarray, drawn: np.ndarray) -> Triple:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(known[0]), float(low), float(high)


def _discordant(first: np.ndarray, second: np.ndarray) -> tuple[int, int, float | None]:
    """(prompts where the first alone is right, the second alone, McNemar's exact p-value)."""
    if first.shape != second.shape or len(first) > 1:
        one, other = first.mean(axis=0), second.mean(axis=0)
        return int((one > other).sum()), int((one < other).sum()), None
    only_first, only_second = int((first > second).sum()), int((first < second).sum())
    return only_first, only_second, mcnemar(only_first, only_second)


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided exact p-value: under no difference, a discordant pair favours either side with 1/2."""
    from scipy.stats import binomtest

    return float(binomtest(only_first, only_first + only_second).pvalue) if only_first + only_second else 1.0


# --------------------------------------------------------------------------------------------------- quality and cost

Cost = tuple[float, float]
"""(once per prompt, per candidate), in one unit."""


def time_cost(run: RunData) -> Cost | None:
    """Milliseconds of a prompt in prod, as a function of n: once + n * per candidate.

    From the medians of the run's own stages: what runs before the pick is paid per candidate, what runs after it once,
    at the price of one item. None where run.json does not tell what the verifier reads.
    """
    rows = {row["stage"]: row["ms"] / max(1, row["items"]) for row in stage_costs(run.timings)}
    reads = run.manifest.get("verifier", {}).get("reads") or ("hidden" if "prefix" in rows else None)
    early = {
        "hidden": ("prefix", "score"),
        "latent": ("generate", "score"),
        "image": ("generate", "decode", "score"),
    }.get(reads)
    if early is None or "encode" not in rows:
        return None
    once = sum(rows.get(name, 0.0) for name in ("encode", "generate", "finish", "decode") if name not in early)
    return once, sum(rows.get(name, 0.0) for name in early)


def quality_over_cost(
    comparison: Comparison, costs: Mapping[str, Mapping[str, Cost]]
) -> dict[str, dict[str, list[tuple[float, float, int]]]]:
    """Unit -> system -> (cost, rate of right picks, n) at n = 1, 2, 4, ..., N.

    Time comes from the runs; `costs` adds further units by system and unit. A system without every candidate's verdict
    has no line.
    """
    found: dict[str, dict[str, list[tuple[float, float, int]]]] = {}
    for system in comparison.systems:
        table = judged(system.runs[0].table)
        if not len(table.scores):
            continue
        rows = curve(table)
        own = time_cost(system.runs[0])
        units = ({"ms per prompt": own} if own else {}) | dict(costs.get(system.title, {}))
        shown = [row for row in rows if row["n"] & (row["n"] - 1) == 0 or row is rows[-1]]
        for unit, (once, each) in units.items():
            points = [(once + row["n"] * each, row["pick"][0], row["n"]) for row in shown]
            found.setdefault(unit, {})[system.title] = points
    return found


def read_costs(file: Path) -> dict[str, dict[str, Cost]]:
    """{run: {unit: [once per prompt, per candidate]}} from JSON. Raises RunError that names file and entry."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        return {
            name: {unit: (float(once), float(each)) for unit, (once, each) in units.items()}
            for name, units in values.items()
        }
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise RunError(
            f'{file}: not a file of costs ({error}); it holds {{"run": {{"TFLOP": [once per prompt, per candidate]}}}}'
        ) from None
