"""The paper's ablations in miniature: what is trained for each, how it is evaluated, and the table of all.

A row is its difference from files of `configs/tiny_ablations` that several rows share; `show` prints what comes of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NotRequired

import yaml
from pydantic import Field
from typing_extensions import TypedDict

from vhs.bootstrap import Interval, bootstrap
from vhs.config.yamlfile import load, nearest
from vhs.errors import BusyError, ConfigError
from vhs.files import read_form
from vhs.training import choice
from vhs.training.commands import run_evaluate, run_train
from vhs.training.config import EvaluateConfig, TrainConfig

if TYPE_CHECKING:
    from vhs.training.trainer import Result

FOLDER = Path("configs/tiny_ablations")
OUTPUTS = Path("outputs/paper")
REFERENCE = "finetune"
"""The row that the others are compared with, unless they name another."""

STATISTICS = ("normalization", "normalization_mean_path", "normalization_variance_path")
OWN = ("more_labels=null", "epochs=3")
UNNORMALISED = tuple(f"{key}=null" for key in STATISTICS)
SHIPPED_CLIP = ("verifier=ckpts/tiny/verifier_clip", "feature=clip", *UNNORMALISED)

LESS = f"less `{REFERENCE}` or `shipped`"
"""What a difference is to, where its cell does not name another row."""
REMEDY = "remove it to evaluate the row again"
PATIENCE = 2.0
"""Seconds between two looks at a training that another process is making."""
Say = Callable[[str], None]


class Rate(TypedDict):
    """A mean with its interval."""

    mean: float
    low: float
    high: float


class BestOf(TypedDict):
    """Best of one N."""

    verifier: Rate
    gain: Rate


class OfPrompt(TypedDict):
    """Best of the largest N for a prompt."""

    prompt: str
    best: float
    tag: NotRequired[str]


class OfTag(TypedDict):
    """One candidate and AUC for the prompts of a GenEval tag."""

    best_of_1: float
    within_prompt_auc: float | None


class Output(TypedDict):
    """The configuration that figures are of."""

    output: str


class Figures(TypedDict):
    """A row's file: what the table is made from."""

    config: Output
    right: float
    within_prompt_auc: Rate
    best_of: Annotated[list[BestOf], Field(min_length=1)]
    per_prompt: list[OfPrompt]
    by_tag: NotRequired[dict[str, OfTag]]


@dataclass(frozen=True)
class Ablation:
    """A row: its trainings and its evaluation, each a file of `configs/tiny_ablations` under `key=value` overrides, and
    the row that it is compared with. Without trainings the evaluation's file names the verifier too."""

    name: str
    about: str
    train: tuple[tuple[str, ...], ...] = ()
    evaluate: tuple[str, ...] = ("evaluate",)
    reference: str = REFERENCE


def _both(name: str, about: str, *changes: str, stages: tuple[str, str] = ("align", REFERENCE), **row: Any) -> Ablation:
    """Stage 1, and stage 2 from it, both with these changes."""
    first = (stages[0], f"name={name}_align", *changes)
    second = (stages[1], f"name={name}", f"init={OUTPUTS / f'{name}_align' / 'checkpoint'}", *changes)
    return Ablation(name, about, (first, second), **row)


def _second(name: str, about: str, *changes: str, **row: Any) -> Ablation:
    """Stage 2 with these changes, from the reference's stage 1."""
    return Ablation(name, about, (("align",), (REFERENCE, f"name={name}", *changes)), **row)


def _own(name: str, about: str, *changes: str) -> Ablation:
    """A loss on a picture's own verdicts alone, of which 64 % are yes: an imbalance that a loss can correct."""
    return _second(name, f"`data_own` with {about}", *OWN, *changes, reference="data_own")


def _seed(seed: int, *stages: str) -> Ablation:
    """Both stages again from another seed, compared with those of the files."""
    tuned = stages[1]
    return _both(
        f"{tuned}_seed_{seed}", f"`{tuned}` from nothing, seed {seed}", f"seed={seed}", stages=stages, reference=tuned
    )


def _block(block: int) -> Ablation:
    """Both stages on another block, with its own statistics."""
    files = (
        f"normalization_{moment}_path={OUTPUTS}/normalization/block_{block}_{moment}_bf16.pt"
        for moment in ("mean", "variance")
    )
    return _both(f"block_{block}", f"block {block}", f"feature=hidden_{block}", *files)


def _stored(dtype: str) -> Ablation:
    """Both stages on features that were stored in 8 bits: `python -m vhs.tinyworld.candidates --dtype <dtype>`."""
    sets = ",".join(f"outputs/tinyworld/candidates_{dtype}/set_{part}" for part in range(4))
    return _both(f"stored_{dtype}", f"features stored in 8 bits, {dtype}", f"data=[{sets}]")


def _shipped(name: str, about: str, *changes: str) -> Ablation:
    """The shipped verifier, evaluated in another way."""
    return Ablation(name, about, (), ("evaluate_shipped", *changes), reference="shipped")


ABLATIONS = (
    _shipped("shipped", "the shipped verifier"),
    _seed(1, "shipped_align", "shipped"),
    _seed(2, "shipped_align", "shipped"),
    Ablation(REFERENCE, "block 7, weighted loss, 20,800 candidates", (("align",), (REFERENCE,))),
    _seed(1, "align", REFERENCE),
    *(_block(block) for block in (1, 5, 9, 19)),
    _both("blocks_5_7", "blocks 5 and 7 side by side", "feature=[hidden_5,hidden_7]", *UNNORMALISED[1:],
          f"normalization={OUTPUTS}/normalization"),
    _both("input_ae", "final latent", "feature=latent", *UNNORMALISED),
    _both("input_clip", "CLIP features of the picture", "feature=clip", "vision_tower=ckpts/tiny/clip_vision",
          *UNNORMALISED),
    _second("loss_cross_entropy", "cross-entropy", "loss=cross_entropy"),
    _second("loss_focal", "focal loss, gamma 2", "loss=focal", "alpha=0.37", "gamma=2.0"),
    _second("loss_ranking", "ranking within a prompt beside the loss", "ranking=1.0"),
    _shipped("no_scoring", "shipped, random among the answers yes", "selection=random_yes"),
    *(_stored(dtype) for dtype in ("int8", "float8")),
    _second("data_quarter", "a quarter of the prompts, as many steps", "fraction=0.25", "epochs=4"),
    _second("data_half", "a half of the prompts, as many steps", "fraction=0.5", "epochs=2"),
    _second("data_own", "no verdicts on other prompts, about as many steps", *OWN),
    _own("own_cross_entropy", "cross-entropy", "loss=cross_entropy"),
    _own("own_focal", "focal loss", "loss=focal", "alpha=0.37", "gamma=2.0"),
    _own("own_ranking", "ranking within a prompt", "ranking=1.0"),
    Ablation("data_no_align", "no stage 1", ((REFERENCE, "name=data_no_align", "init=ckpts/tiny/language_model"),)),
    *(_shipped(f"lora_{part}{suffix}", f"{about}, generator shifted by a LoRA, {part} %",
               f"data=[outputs/paper/lora_{part}]", *keys)
      for part in (50, 100)
      for suffix, about, keys in (("", "shipped", ()), ("_clip", "shipped CLIP verifier", SHIPPED_CLIP))),
)  # fmt: skip


def choose(names: Iterable[str]) -> list[Ablation]:
    """The rows of these names, all for none. Raises ConfigError on a name that is none."""
    known = {ablation.name: ablation for ablation in ABLATIONS}
    for name in names:
        if name not in known:
            raise ConfigError(f"{name}: no such ablation{nearest(name, known)}; there are {', '.join(known)}")
    return [known[name] for name in names] or list(ABLATIONS)


def trainings(ablation: Ablation, overrides: Iterable[str] = ()) -> list[TrainConfig]:
    """A row's trainings in their order, each under `overrides`; an interrupted one goes on."""
    overrides = [*overrides, "cont=true"]
    return [load(TrainConfig, FOLDER / f"{file}.yaml", [*own, *overrides]) for file, *own in ablation.train]


def evaluation(ablation: Ablation, trained: TrainConfig | None) -> EvaluateConfig:
    """How a row's verifier is evaluated: on the feature and with the statistics that it was trained with."""
    file, *own = ablation.evaluate
    keys = [f"output={result_path(ablation)}", *own]
    if trained is not None:
        keys += [f"verifier={trained.folder / 'checkpoint'}", f"feature={trained.feature}"]
        keys += [f"{key}={getattr(trained, key) or 'null'}" for key in STATISTICS]
    return load(EvaluateConfig, FOLDER / f"{file}.yaml", keys)


def result_path(ablation: Ablation) -> Path:
    """Where a row's figures are written."""
    return OUTPUTS / f"{ablation.name}.json"


def show(ablation: Ablation, overrides: Iterable[str] = ()) -> str:
    """What `run` does for a row, as YAML: a document with every key for each training, and one for the evaluation.
    Each is a whole configuration, which train.py and evaluate.py take."""
    trained = trainings(ablation, overrides)
    tested = evaluation(ablation, trained[-1] if trained else None)
    named = [(f"{ablation.name}, stage {config.stage}: train.py", config) for config in trained]
    named.append((f"{ablation.name}: evaluate.py", tested))
    return "---\n".join(f"# {name}\n{_yaml(config)}" for name, config in named)


def _yaml(config: TrainConfig | EvaluateConfig) -> str:
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=1000)


def run(ablation: Ablation, overrides: Iterable[str], say: Say) -> None:
    """Trains what the row still lacks and evaluates it; a row with figures is left as it is."""
    if result_path(ablation).exists():
        return
    config = None
    for config in trainings(ablation, overrides):
        say(f"{ablation.name}: {_trained(config, say).line()}")
    say(run_evaluate(evaluation(ablation, config), say).line())


def _trained(config: TrainConfig, say: Say) -> Result:
    """Runs a training; one that several rows share may be at work in another process, which is waited for."""
    waited = False
    while True:
        try:
            return run_train(config, say)
        except BusyError as error:
            if not waited:
                say(f"{error}; waiting")
            waited = True
            time.sleep(PATIENCE)


def difference(found: dict[str, Any], reference: dict[str, Any]) -> Interval:
    """Best of N less the reference's on the same candidates, paired by prompt. Raises ConfigError where they differ."""
    ours, theirs = (result["per_prompt"] for result in (found, reference))
    if [row["prompt"] for row in ours] != [row["prompt"] for row in theirs]:
        raise ConfigError(f"{found['config']['output']}: other prompts than {reference['config']['output']}'s")
    return choice.difference(found, reference)


def table(rows: Iterable[Ablation]) -> str:
    """Markdown: rates in percent with 95 % intervals; rows that have not been run are left out."""
    results = _results()

    def cells(found: dict[str, Any], less: str) -> list[str]:
        best = found["best_of"][-1]
        auc = _plain(found["within_prompt_auc"])
        return [f"{100 * found['right']:.1f}", _percent(best["verifier"]), _percent(best["gain"], "+"), less, auc]

    names = ("candidates right", "best of 8", "gain", LESS, "AUC within a prompt")
    return _markdown(names, rows, results, cells)


def table_of(tag: str, rows: Iterable[Ablation]) -> str:
    """The same for the prompts of one GenEval tag alone. Raises ConfigError where a row has no figures of it."""
    results = {name: _inside(found, tag) for name, found in _results().items()}

    def cells(found: dict[str, Any], less: str) -> list[str]:
        one, picked = found["by_tag"][tag], found["per_prompt"]
        best = bootstrap([row["best"] for row in picked], [row["prompt"] for row in picked])
        auc = one["within_prompt_auc"]
        return [f"{100 * one['best_of_1']:.1f}", _percent(vars(best)), less, "" if auc is None else f"{auc:.3f}"]

    names = ("candidates right", "best of 8", LESS, "AUC within a prompt")
    return _markdown(names, rows, results, cells)


def _results() -> dict[str, dict[str, Any]]:
    """The figures of every row that has been run. Raises ConfigError on a damaged file."""
    done = {row.name: result_path(row) for row in ABLATIONS if result_path(row).exists()}
    return {name: read_form(path, Figures, ConfigError, REMEDY) for name, path in done.items()}


def _inside(found: dict[str, Any], tag: str) -> dict[str, Any]:
    """A row's figures with the prompts of one tag alone. Raises ConfigError where there are none."""
    picked = [row for row in found["per_prompt"] if row.get("tag") == tag]
    if not picked or tag not in found.get("by_tag", {}):
        known = ", ".join(sorted({row["tag"] for row in found["per_prompt"] if "tag" in row})) or "no tags"
        raise ConfigError(f"{found['config']['output']}: no prompt of tag {tag}, there are {known}; {REMEDY}")
    return found | {"per_prompt": picked}


def _markdown(
    names: Sequence[str], rows: Iterable[Ablation], results: dict[str, dict], cells: Callable[[dict, str], list[str]]
) -> str:
    """A line for each row that has been run: its name, what differs, and its `cells`, from its figures and its paired
    difference."""
    head = [_line(("run", "what differs", *names)), _line(["---"] * (len(names) + 2)).replace(" ", "")]
    lines = (
        _line([f"`{row.name}`", row.about, *cells(results[row.name], _paired(row, results))])
        for row in rows
        if row.name in results
    )
    return "\n".join([*head, *lines])


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _paired(row: Ablation, results: dict[str, dict]) -> str:
    """The difference to the reference, empty for itself and for the candidates of a shifted generator."""
    found, reference = results[row.name], results.get(row.reference)
    if row.name == row.reference or reference is None or abs(found["right"] - reference["right"]) > 1e-12:
        return ""
    named = "" if row.reference in (REFERENCE, "shipped") else f", to `{row.reference}`"
    return _percent(vars(difference(found, reference)), "+") + named


def _percent(value: dict[str, float], sign: str = "") -> str:
    return f"{100 * value['mean']:{sign}.1f} ({100 * value['low']:{sign}.1f} to {100 * value['high']:{sign}.1f})"


def _plain(value: dict[str, float]) -> str:
    return f"{value['mean']:.3f} ({value['low']:.3f} to {value['high']:.3f})"
