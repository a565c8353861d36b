"""Where should a multi-step generator be read? Best-of-N at every step of the tiny teacher: quality against cost.

    python -m vhs.tinyworld.teacher_pipeline
    python -m vhs.tinyworld.early_exit                     # [--prompts 120] [--candidates 8] [--steps 8]
    python -m vhs.tinyworld.early_exit --statistics outputs/paper/normalization \\
        --verifiers hidden_5=outputs/paper/block_5/checkpoint hidden_7=outputs/paper/finetune/checkpoint

The verifier is the one of `configs/tiny_teacher.yaml` unless others are named, each of a block of its own; it reads its
block of step s of the same candidates, for every s. A candidate's picture does not depend on where it was read, so
each is made and judged once.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from tqdm import tqdm

from vhs import metrics
from vhs.bootstrap import Interval, bootstrap
from vhs.config.run import load_config
from vhs.generators.diffusers_pipeline import DiffusersPipeline, PipelineText
from vhs.measure.flops import counted
from vhs.records import Prompt
from vhs.resolve import resolve
from vhs.seeding import candidate_seed
from vhs.tinyworld import recipe
from vhs.tinyworld.scenes import sample_prompts
from vhs.verifiers.base import Verifier
from vhs.verifiers.feature_names import blocks_in

RUN = "configs/tiny_teacher.yaml"
SEED = 9100


def generate(
    generator: DiffusersPipeline, noise: torch.Tensor, text: PipelineText, blocks: Sequence[int]
) -> tuple[torch.Tensor, dict[int, list[torch.Tensor]]]:
    """Final latents, and what each of `blocks` returned in each step, of the conditional half: one pass for all."""
    states: dict[int, list[torch.Tensor]] = {block: [] for block in blocks}
    with ExitStack() as hooks:
        for block, kept in states.items():
            module = generator.network.get_submodule(generator.info.path(block))
            hook = module.register_forward_hook(lambda _, inputs, output, kept=kept: kept.append(output.chunk(2)[1]))
            hooks.callback(hook.remove)
        return generator.generate(noise, text), states


def measure(
    prompts: Sequence[Prompt],
    candidates: int,
    steps: int,
    checkpoints: Mapping[str, str] | None = None,
    statistics: str = "",
) -> dict[str, Any]:
    """Groups and verdicts of all candidates, and for each exit, a step and a block, their scores and the FLOPs of one
    candidate until there."""
    run = resolve(load_config(RUN, overrides(candidates, steps)))
    generator, judge = run.models.load_generator(), run.judges[0].load()
    verifiers = load_verifiers(checkpoints, statistics) if checkpoints else [run.models.load_verifier()]
    exits = [(step, verifier) for verifier in verifiers for step in range(1, steps + 1)]
    groups, verdicts, scores = [], [], [[] for _ in exits]
    for prompt, text in zip(tqdm(prompts, desc="prompts"), generator.encode([p.text for p in prompts]), strict=True):
        noise = generator.noise([candidate_seed(SEED, prompt.id, i) for i in range(candidates)])
        latents, states = generate(generator, noise, text, [verifier.block for verifier in verifiers])
        for column, (step, verifier) in zip(scores, exits, strict=True):
            column += verifier.score(prompt.text, states[verifier.block][step - 1]).score.tolist()
        groups += [prompt.id] * candidates
        verdicts += [
            verdict.correct for verdict in judge.judge_batch(generator.decode(latents), [prompt.metadata] * candidates)
        ]
    text = generator.encode([prompts[0].text])[0]
    whole = counted(lambda: generator.generate(generator.noise([0]), text))
    found = [
        {"step": step, "block": verifier.block, "scores": column,
         "share": cost(generator, text, verifier.block, step) / whole}
        for (step, verifier), column in zip(exits, scores, strict=True)
    ]  # fmt: skip
    return {"groups": groups, "verdicts": verdicts, "steps": steps, "exits": found}


def load_verifiers(checkpoints: Mapping[str, str], statistics: str) -> list[Verifier]:
    """The verifiers of these features' folders, each with its block's statistics from the folder `statistics`."""
    found = []
    for feature, checkpoint in checkpoints.items():
        keys = [f"latent_verifier_path={checkpoint}", f"vision_tower={feature}", f"normalization={statistics}"]
        run = resolve(load_config("configs/tiny.yaml", ["latent_verifier_name=null", *keys]))
        found.append(run.models.load_verifier())
    return found


def overrides(candidates: int, steps: int) -> list[str]:
    """Keys of the run: equal steps, all candidates of a prompt at once."""
    sigmas = [1 - step / steps for step in range(steps)]
    return [
        f"num_inference_steps={steps}", f"pipeline_arguments={{sigmas: {sigmas}}}", f"num_samples={candidates}",
        f"micro_batch={candidates}",
    ]  # fmt: skip


def cost(generator: DiffusersPipeline, text: PipelineText, block: int, step: int) -> int:
    """FLOPs of one candidate until the block of this step."""
    settings = replace(generator.settings, hidden_step=step, block=None)  # which would win over the argument
    stopped = DiffusersPipeline(generator.pipeline, generator.description, settings)
    return counted(lambda: stopped.prefix(generator.noise([0]), text, block))


def rows(found: dict[str, Any], candidates: int) -> list[dict[str, Any]]:
    """Per exit: what best-of-N costs in whole pictures, and its figures."""
    groups, verdicts = found["groups"], found["verdicts"]
    out = []
    for place in found["exits"]:
        best = metrics.best_of_n(groups, place["scores"], verdicts, candidates)
        aucs = metrics.group_aucs(groups, place["scores"], verdicts)
        pictures = candidates * place["share"] + (1 - place["share"])
        figures = {"pictures": pictures, "best": bootstrap(list(best.values())), "auc": bootstrap(list(aucs.values()))}
        out.append({**place, **figures})
    return out


def percent(value: Interval) -> str:
    """`80.5 [77.2, 83.6]`."""
    return f"{100 * value.mean:.1f} [{100 * value.low:.1f}, {100 * value.high:.1f}]"


def table(found: dict[str, Any], candidates: int) -> str:
    """Markdown."""
    groups, verdicts = found["groups"], found["verdicts"]
    single = metrics.best_of_n(groups, [0.0] * len(groups), verdicts, 1)
    oracle = metrics.oracle_of_n(groups, verdicts, candidates)
    lines = [
        f"one candidate {percent(bootstrap(list(single.values())))}, a perfect pick of {candidates} "
        f"{percent(bootstrap(list(oracle.values())))}",
        "",
        f"| block | of step | FLOPs of a candidate | best of {candidates} costs | best of {candidates} | AUC |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['block']} | {row['step']} of {found['steps']} | {100 * row['share']:.0f} % | {row['pictures']:.1f} "
        f"| {percent(row['best'])} | {row['auc'].mean:.3f} [{row['auc'].low:.3f}, {row['auc'].high:.3f}] |"
        for row in rows(found, candidates)
    ]
    return "\n".join(lines)


def pair(text: str) -> tuple[str, str]:
    """A feature and its verifier's folder, from `feature=folder`."""
    feature, equals, folder = text.partition("=")
    if not (equals and blocks_in(feature) and folder):
        raise argparse.ArgumentTypeError(f"{text}: give hidden_<block>=<folder of its verifier>")
    return feature, folder


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m vhs.tinyworld.early_exit", description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=120, help="prompts that no stage trained on (%(default)s)")
    parser.add_argument("--candidates", type=int, default=8, help="N (%(default)s)")
    parser.add_argument("--steps", type=int, default=8, help="denoising steps (%(default)s)")
    parser.add_argument("--verifiers", nargs="+", type=pair, default=[], metavar="FEATURE=CHECKPOINT",
                        help="of which blocks, instead of the run's own")  # fmt: skip
    parser.add_argument("--statistics", default="", help="folder of their blocks' statistics")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    records = sample_prompts(args.prompts, seed=2027, split="test")
    asked = [Prompt(i, record["prompt"], record) for i, record in enumerate(records)]
    found = measure(asked, args.candidates, args.steps, dict(args.verifiers), args.statistics)
    print(table(found, args.candidates))
    print(json.dumps({"prompts": args.prompts, "candidates": args.candidates, "steps": args.steps}))


if __name__ == "__main__":
    recipe.command(main)
