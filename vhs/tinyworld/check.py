"""Measures the shipped tiny world: `python -m vhs.tinyworld.check [--quick | --untouched]`.

Prints tables and, as its last line, one JSON object. All seeds are new to every stage; in the tags colors, position
and color_attr the combinations of shape, colour and relation are new as well. Intervals are 95 % bootstraps over the
prompts' texts, of which some are drawn twice, and over seeds (over scenes for the autoencoder and the judge).

`--untouched`: the verifier on `scenes.untouched_prompts`, which no development has looked at. Once for each set of
weights, at the end.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from vhs import metrics
from vhs.bootstrap import Interval, bootstrap, bootstrap_crossed
from vhs.config.run import load_config
from vhs.generators.base import stopped_at
from vhs.judges.base import Judge
from vhs.records import TAGS, Prompt
from vhs.resolve import resolve
from vhs.seeding import candidate_seed
from vhs.tinyworld import recipe
from vhs.tinyworld.drawing import render
from vhs.tinyworld.geometry_judge import GeometryJudge
from vhs.tinyworld.scenes import Scene, contrast, sample_prompts, sample_scene, true_verdict, untouched_prompts

CANDIDATES = 8
FIRST_SCENE = 1_500_000_000
NEW_COMBINATIONS = ("colors", "position", "color_attr")
JUDGES = ("geneval", "geometry")
"""The first labelled the verifier's training data, the second did not."""


# ------------------------------------------------------------------------------------------- autoencoder and evaluator


def held_out_scenes(count: int) -> list[Scene]:
    """Scenes that no stage has seen, of the captions that no stage has trained on."""
    return [sample_scene(FIRST_SCENE + i, "test") for i in range(count)]


def reconstruct(autoencoder: torch.nn.Module, images: Sequence[Image.Image], batch: int = 50) -> list[Image.Image]:
    """Encode and decode, back to 8 bits."""
    out: list[Image.Image] = []
    for start in range(0, len(images), batch):
        arrays = np.stack([np.asarray(image) for image in images[start : start + batch]])
        x = torch.from_numpy(arrays).permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.no_grad():
            y = autoencoder.decode(autoencoder.encode(x).latent).sample.clamp(-1, 1)
        pixels = ((y + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
        out += [Image.fromarray(picture) for picture in pixels]
    return out


def psnr(a: Image.Image, b: Image.Image) -> float:
    """Of two 8-bit pictures, in dB."""
    error = np.square(np.asarray(a, dtype=float) - np.asarray(b, dtype=float)).mean()
    return 10 * math.log10(255**2 / max(error, 1e-9))


def wrong_record(scene: Scene, masks: np.ndarray, seed: int) -> dict:
    """A caption that differs in one shape, colour, count or relation and that is wrong of this scene."""
    rng = np.random.default_rng([seed, 17])
    while True:
        record = contrast(scene.metadata, rng)
        if not true_verdict(record, scene, masks).correct:
            return record


def judged(judge: Judge, images: Sequence[Image.Image], records: Sequence[dict], batch: int = 64) -> list[bool]:
    """A judge's verdicts."""
    out: list[bool] = []
    for start in range(0, len(images), batch):
        verdicts = judge.judge_batch(images[start : start + batch], records[start : start + batch])
        out += [verdict.correct for verdict in verdicts]
    return out


def measure_judges(autoencoder: torch.nn.Module, judges: dict[str, Judge], count: int) -> dict[str, Interval]:
    """PSNR, and how often each judge accepts true captions and rejects wrong ones, on pictures and reconstructions."""
    scenes = held_out_scenes(count)
    drawn = [render(scene) for scene in scenes]
    images = [picture for picture, _ in drawn]
    wrong = [wrong_record(scene, masks, i) for i, (scene, (_, masks)) in enumerate(zip(scenes, drawn, strict=True))]
    right = [scene.metadata for scene in scenes]
    again = reconstruct(autoencoder, images)
    figures = {"autoencoder_psnr_db": [psnr(a, b) for a, b in zip(images, again, strict=True)]}
    for name, judge in judges.items():
        prefix = "judge" if name == JUDGES[0] else name
        for suffix, pictures in (("", images), ("_reconstructed", again)):
            figures[f"{prefix}_accept{suffix}"] = judged(judge, pictures, right)
            figures[f"{prefix}_reject{suffix}"] = [not verdict for verdict in judged(judge, pictures, wrong)]
    return {name: bootstrap(values) for name, values in figures.items()}


# -------------------------------------------------------------------------------------------- generator and verifier


class Rows:
    """A row per candidate: its prompt and seed, its score, its score with another prompt's features, each judge's
    verdict."""

    def __init__(self) -> None:
        self.groups: list[tuple[int, int]] = []
        self.scores: list[float] = []
        self.shuffled: list[float] = []
        self.verdicts: dict[str, list[bool]] = {name: [] for name in JUDGES}
        self.tags: dict[tuple[int, int], str] = {}
        self.texts: dict[int, str] = {}


def collect_rows(
    generator, verifier, judges: dict[str, Judge], prompts: Sequence[Prompt], seeds: Sequence[int]
) -> Rows:
    """Every candidate scored from its hidden states, finished, decoded and judged by all."""
    rows = Rows()
    texts = generator.encode([prompt.text for prompt in prompts])
    with tqdm(total=len(prompts) * len(seeds), desc="prompts x seeds", mininterval=5) as bar:
        for seed in seeds:
            before = None
            for prompt, text in zip(prompts, texts, strict=True):
                noise = generator.noise([candidate_seed(seed, prompt.id, i) for i in range(CANDIDATES)])
                hidden, prefix = stopped_at(generator, noise, text, verifier.blocks)
                images = generator.decode(generator.finish(prefix))
                other = hidden.flip(0) if before is None else before
                rows.groups += [(prompt.id, seed)] * CANDIDATES
                rows.tags[prompt.id, seed] = prompt.metadata["tag"]
                rows.texts[prompt.id] = prompt.text
                rows.scores += verifier.score(prompt.text, hidden).score.tolist()
                rows.shuffled += verifier.score(prompt.text, other).score.tolist()
                for name, judge in judges.items():
                    rows.verdicts[name] += judged(judge, images, [prompt.metadata] * CANDIDATES)
                before = hidden
                bar.update()
    return rows


def measure_verifier(
    rows: Rows, only: Callable[[str], bool] = lambda tag: True, judge: str = JUDGES[0]
) -> dict[str, Interval]:
    """Best-of-N rates and the within-prompt AUC over the groups whose tag is wanted, by one judge."""
    keep = [i for i, group in enumerate(rows.groups) if only(rows.tags[group])]
    groups, scores, shuffled, verdicts = (
        [column[i] for i in keep] for column in (rows.groups, rows.scores, rows.shuffled, rows.verdicts[judge])
    )
    per_group = {
        "single": metrics.best_of_n(groups, scores, verdicts, 1),
        "best_of_2": metrics.best_of_n(groups, scores, verdicts, 2),
        "best_of_4": metrics.best_of_n(groups, scores, verdicts, 4),
        "best_of_8": metrics.best_of_n(groups, scores, verdicts, 8),
        "oracle_of_8": metrics.oracle_of_n(groups, verdicts, 8),
        "auc": metrics.group_aucs(groups, scores, verdicts),
        "auc_shuffled": metrics.group_aucs(groups, shuffled, verdicts),
    }
    per_group["gain"] = {g: per_group["best_of_8"][g] - per_group["single"][g] for g in per_group["single"]}
    return {name: over_texts(values, rows) for name, values in per_group.items()}


def over_texts(values: dict[tuple[int, int], float], rows: Rows) -> Interval:
    """The mean over groups, with an interval over their prompts' texts (one may stand at several places) and seeds."""
    texts, seeds = [rows.texts[prompt] for prompt, _ in values], [seed for _, seed in values]
    return bootstrap_crossed(list(values.values()), texts, seeds)


def measure_second_judge(rows: Rows) -> dict[str, Interval]:
    """What the verifier gains by the judge that labelled nothing, and how much less that is.

    `geometry_of_geneval`: the second judge's rate where the first one's own verdicts pick among 8 (the first candidate
    that it finds right). `gain_less`: the gain by the first judge less that by the second, of the same candidates.
    """
    first, second = (rows.verdicts[name] for name in JUDGES)
    ones = metrics.best_of_n(rows.groups, rows.scores, first, 1), metrics.best_of_n(rows.groups, rows.scores, second, 1)
    best = metrics.best_of_n(rows.groups, rows.scores, first, 8), metrics.best_of_n(rows.groups, rows.scores, second, 8)
    less = {g: (best[0][g] - ones[0][g]) - (best[1][g] - ones[1][g]) for g in ones[0]}
    agree = [float(a == b) for a, b in zip(first, second, strict=True)]
    by_labels = metrics.best_of_n(rows.groups, np.asarray(first, dtype=float), second, 8)
    names = ("single", "best_of_8", "oracle_of_8", "gain", "auc")
    measured = measure_verifier(rows, judge=JUDGES[1])
    return {
        **{f"geometry_{name}": measured[name] for name in names},
        "geometry_of_geneval": over_texts(by_labels, rows),
        "gain_less": over_texts(less, rows),
        "judges_agree": bootstrap(agree, [rows.texts[prompt] for prompt, _ in rows.groups]),
    }


# ------------------------------------------------------------------------------------------------------------ report


def parts() -> dict[str, Callable[[str], bool]]:
    """Which tags each line of a table is over: each tag, the two kinds of held-out prompts, all."""
    found: dict[str, Callable[[str], bool]] = {tag: (lambda one, tag=tag: one == tag) for tag in TAGS}
    found["new seeds only"] = lambda tag: tag not in NEW_COMBINATIONS
    found["new combinations"] = lambda tag: tag in NEW_COMBINATIONS
    found["all"] = lambda tag: True
    return found


def table(rows: Rows) -> str:
    """Rates in percent by the first judge."""
    names = ("single", "best_of_2", "best_of_4", "best_of_8", "oracle_of_8", "auc")
    lines = [f"{'':18}" + "".join(f"{name:>13}" for name in names)]
    for part, only in parts().items():
        figures = measure_verifier(rows, only)
        cells = [f"{figures[n].mean:13.3f}" if n == "auc" else f"{100 * figures[n].mean:13.1f}" for n in names]
        lines.append(f"{part:18}" + "".join(cells))
    return "\n".join(lines)


def both_judges(rows: Rows) -> str:
    """The same picks by both judges, side by side, in percent with 95 % intervals over prompts."""
    names = [(name, judge) for name in ("single", "best_of_8", "gain") for judge in JUDGES]
    lines = [f"{'':18}" + "".join(f"{f'{name} {judge}':>21}" for name, judge in names)]
    for part, only in parts().items():
        figures = {judge: measure_verifier(rows, only, judge) for judge in JUDGES}
        cells = [in_percent(figures[judge][name]) for name, judge in names]
        lines.append(f"{part:18}" + "".join(f"{cell:>21}" for cell in cells))
    return "\n".join(lines)


def in_percent(figure: Interval) -> str:
    """`80.5 [77.2, 83.6]`."""
    return f"{100 * figure.mean:.1f} [{100 * figure.low:.1f}, {100 * figure.high:.1f}]"


def as_json(figures: dict[str, Interval], prompts: int, seeds: int) -> str:
    """One object: each figure, its interval as `<key>_ci`, and the counts."""
    out: dict[str, object] = {}
    for name, interval in figures.items():
        out[name] = round(interval.mean, 4)
        out[f"{name}_ci"] = [round(interval.low, 4), round(interval.high, 4)]
    return json.dumps(out | {"prompts": prompts, "seeds": seeds})


def check(prompts: int, seeds: int, scenes: int, config_path: str = "configs/tiny.yaml") -> tuple[Rows, dict]:
    """Every figure, from the shipped weights."""
    generator, verifier, judges = load_models(config_path)
    figures = measure_judges(generator.pipeline.vae, judges, scenes)
    asked = as_prompts(sample_prompts(prompts, seed=2026, split="test"))
    rows = collect_rows(generator, verifier, judges, asked, [9000 + i for i in range(seeds)])
    return rows, figures | measure_verifier(rows) | measure_second_judge(rows)


def check_untouched(seeds: int, config_path: str = "configs/tiny.yaml") -> tuple[Rows, dict]:
    """The verifier's figures on the prompts and noises that no development has seen."""
    rows = collect_rows(*load_models(config_path), as_prompts(untouched_prompts()), [770_000 + i for i in range(seeds)])
    return rows, measure_verifier(rows) | measure_second_judge(rows)


def load_models(config_path: str) -> tuple[Any, Any, dict[str, Judge]]:
    """Generator, verifier and both judges of a configuration."""
    run = resolve(load_config(config_path))
    judges = dict(zip(JUDGES, (run.judges[0].load(), GeometryJudge()), strict=True))
    return run.models.load_generator(), run.models.load_verifier(), judges


def as_prompts(records: Sequence[dict]) -> list[Prompt]:
    """Numbered prompts of GenEval's records."""
    return [Prompt(i, record["prompt"], record) for i, record in enumerate(records)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m vhs.tinyworld.check", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="60 prompts, 1 seed, 200 scenes: about two minutes")
    parser.add_argument("--untouched", action="store_true", help="prompts and seeds that no development has looked at")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    prompts, seeds, scenes = (60, 1, 200) if args.quick else (300, 5, 1000)
    started = time.perf_counter()
    rows, figures = check_untouched(3) if args.untouched else check(prompts, seeds, scenes)
    for name, interval in figures.items():
        print(f"{name:32} {interval.mean:8.4f}   [{interval.low:.4f}, {interval.high:.4f}]")
    print(f"\n{table(rows)}\n\n{both_judges(rows)}\n\n{time.perf_counter() - started:.0f} s")
    print(as_json(figures, len(rows.texts), len({seed for _, seed in rows.groups})))


if __name__ == "__main__":
    recipe.command(main)
