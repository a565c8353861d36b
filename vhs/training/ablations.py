"""The paper's ablations in miniature: what is trained for each, how it is evaluated, and the table of all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vhs.config.yamlfile import load, nearest
from vhs.errors import ConfigError
from vhs.training import metrics
from vhs.training.commands import run_evaluate, run_train
from vhs.training.config import EvaluateConfig, TrainConfig

FOLDER = Path("configs/paper")
REFERENCE = "finetune"
"""The row that the others are compared with, unless they name another."""

STATISTICS = ("normalization_mean_path", "normalization_variance_path")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Ablation:
    """A row: its trainings, each a file of `configs/paper` with overrides; overrides of its evaluation; the row that it is
    compared with. `base` is the file of its evaluation; without trainings it names the verifier too."""

    name: str
    about: str
    train: tuple[tuple[str, ...], ...] = ()
    evaluate: tuple[str, ...] = ()
    base: str = "evaluate"
    reference: str = REFERENCE


def _seed(seed: int, align: str, tune: str) -> Ablation:
    """Both stages of `tune` again, compared with it."""
    name = f"{tune}_seed_{seed}"
    first = (align, f"seed={seed}", f"name={name}_align")
    second = (tune, f"seed={seed}", f"name={name}", f"init=outputs/paper/{name}_align/checkpoint")
    return Ablation(name, f"`{tune}` from nothing, seed {seed}", (first, second), reference=tune)


ABLATIONS = (
    Ablation("shipped", "the shipped verifier", base="evaluate_shipped", reference="shipped"),
    _seed(1, "shipped_align", "shipped"),
    _seed(2, "shipped_align", "shipped"),
    Ablation(REFERENCE, "block 7, weighted loss, 20,800 candidates", (("align",), (REFERENCE,))),
    _seed(1, "align", REFERENCE),
    *(Ablation(f"block_{l}", f"block {l}", ((f"block_{l}_align",), (f"block_{l}",))) for l in (1, 5, 9, 19)),
    Ablation("input_ae", "final latent", (("input_ae_align",), ("input_ae",))),
    Ablation("input_clip", "CLIP features of the picture", (("input_clip_align",), ("input_clip",)),
             ("data=[outputs/paper/clip_test]",)),
    Ablation("loss_cross_entropy", "cross-entropy", (("align",), ("loss_cross_entropy",))),
    Ablation("loss_focal", "focal loss, gamma 2", (("align",), ("loss_focal",))),
    Ablation("no_scoring", "shipped, random among the answers yes", base="evaluate_no_scoring", reference="shipped"),
    Ablation("data_quarter", "a quarter of the prompts, as many steps", (("align",), ("data_quarter",))),
    Ablation("data_half", "a half of the prompts, as many steps", (("align",), ("data_half",))),
    Ablation("data_own", "no verdicts on other prompts, about as many steps", (("align",), ("data_own",))),
    Ablation("data_no_align", "no stage 1", (("data_no_align",),)),
    *(Ablation(f"lora_{part}", f"shipped, generator shifted by a LoRA, {part} %", (), (f"data=[outputs/paper/lora_{part}]",),
               base="evaluate_shipped", reference="shipped") for part in (50, 100)),
)  # fmt: skip


def choose(names: Iterable[str]) -> list[Ablation]:
    """The rows of these names, all for none. Raises ConfigError on a name that is none."""
    known = {ablation.name: ablation for ablation in ABLATIONS}
    for name in names:
        if name not in known:
            raise ConfigError(f"{name}: no such ablation{nearest(name, known)}; there are {', '.join(known)}")
    return [known[name] for name in names] or list(ABLATIONS)


def evaluation(ablation: Ablation, trained: TrainConfig | None) -> EvaluateConfig:
    """How a row's verifier is evaluated: on the feature and with the statistics that it was trained with."""
    keys = [f"output={result_path(ablation)}", *ablation.evaluate]
    if trained is not None:
        keys += [f"verifier={trained.folder / 'checkpoint'}", f"feature={trained.feature}"]
        keys += [f"{key}={getattr(trained, key) or 'null'}" for key in STATISTICS]
    return load(EvaluateConfig, FOLDER / f"{ablation.base}.yaml", keys)


def result_path(ablation: Ablation) -> Path:
    """Where a row's figures are written."""
    return Path("outputs/paper") / f"{ablation.name}.json"


def run(ablation: Ablation, overrides: Iterable[str], say: Say) -> None:
    """Trains what the row still lacks and evaluates it; a row with figures is left as it is."""
    if result_path(ablation).exists():
        return
    config = None
    for file, *own in ablation.train:
        config = load(TrainConfig, FOLDER / f"{file}.yaml", [*own, *overrides, "cont=true"])
        say(f"{ablation.name}: {run_train(config, say)}")
    say(run_evaluate(evaluation(ablation, config), say))


def difference(found: dict[str, Any], reference: dict[str, Any]) -> metrics.Interval:
    """Best of N less the reference's on the same candidates, paired by prompt. Raises ConfigError where they differ."""
    ours, theirs = (result["per_prompt"] for result in (found, reference))
    if [row["prompt"] for row in ours] != [row["prompt"] for row in theirs]:
        raise ConfigError(f"{found['config']['output']}: other prompts than {reference['config']['output']}'s")
    values = [a["best"] - b["best"] for a, b in zip(ours, theirs, strict=True)]
    return metrics.bootstrap(values, [row["prompt"] for row in ours])


def table(rows: Iterable[Ablation]) -> str:
    """Markdown: rates in percent with 95 % intervals; rows that have not been run are left out."""
    results = {row.name: json.loads(result_path(row).read_text()) for row in ABLATIONS if result_path(row).exists()}
    less = f"less `{REFERENCE}` or `shipped`"
    names = ("run", "what differs", "candidates right", "best of 8", "gain", less, "AUC within a prompt")
    lines = [_line(names), _line(["---"] * len(names)).replace(" ", "")]
    for row in rows:
        if row.name in results:
            found, best = results[row.name], results[row.name]["best_of"][-1]
            figures = [_percent(best["verifier"]), _percent(best["gain"], "+"), _paired(row, results)]
            auc = _plain(found["within_prompt_auc"])
            lines.append(_line([f"`{row.name}`", row.about, f"{100 * found['right']:.1f}", *figures, auc]))
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _paired(row: Ablation, results: dict[str, dict]) -> str:
    """The difference to the reference, empty for itself and for the candidates of a shifted generator."""
    found, reference = results[row.name], results.get(row.reference)
    if row.name == row.reference or reference is None or abs(found["right"] - reference["right"]) > 1e-12:
        return ""
    return _percent(vars(difference(found, reference)), "+")


def _percent(value: dict[str, float], sign: str = "") -> str:
    return f"{100 * value['mean']:{sign}.1f} ({100 * value['low']:{sign}.1f} to {100 * value['high']:{sign}.1f})"


def _plain(value: dict[str, float]) -> str:
    return f"{value['mean']:.3f} ({value['low']:.3f} to {value['high']:.3f})"
