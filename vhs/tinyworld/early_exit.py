"""Where should a multi-step generator be read? Best-of-N at every step of the tiny teacher: quality against cost.

    python -m vhs.tinyworld.teacher_pipeline
    python -m vhs.tinyworld.early_exit                     # [--prompts 120] [--candidates 8] [--steps 8]

The verifier is the one of `configs/tiny_teacher.yaml`; it reads its block of step s of the same candidates, for every
s. A candidate's pictures do not depend on where it was read, so each is made and judged once.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
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
from vhs.tinyworld.scenes import sample_prompts

RUN = "configs/tiny_teacher.yaml"
SEED = 9100


def generate(
    generator: DiffusersPipeline, noise: torch.Tensor, text: PipelineText, block: int
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Final latents, and what `block` returned in each step, of the conditional half: one pass for all exits."""
    states: list[torch.Tensor] = []
    module = generator.network.get_submodule(generator.info.path(block))
    hook = module.register_forward_hook(lambda module, inputs, output: states.append(output.chunk(2)[1]))
    try:
        return generator.generate(noise, text), states
    finally:
        hook.remove()


def measure(prompts: Sequence[Prompt], candidates: int, steps: int) -> dict[str, Any]:
    """Groups and verdicts of all candidates, and per step their scores and the FLOPs of one candidate until there."""
    run = resolve(load_config(RUN, overrides(candidates, steps)))
    generator, verifier, judge = run.models.load_generator(), run.models.load_verifier(), run.judges[0].load()
    groups, verdicts, scores = [], [], [[] for _ in range(steps)]
    for prompt, text in zip(tqdm(prompts, desc="prompts"), generator.encode([p.text for p in prompts]), strict=True):
        noise = generator.noise([candidate_seed(SEED, prompt.id, i) for i in range(candidates)])
        latents, states = generate(generator, noise, text, verifier.block)
        for column, state in zip(scores, states, strict=True):
            column += verifier.score(prompt.text, state).score.tolist()
        groups += [prompt.id] * candidates
        verdicts += [
            verdict.correct for verdict in judge.judge_batch(generator.decode(latents), [prompt.metadata] * candidates)
        ]
    text = generator.encode([prompts[0].text])[0]
    costs = [cost(generator, text, verifier.block, step) for step in range(1, steps + 1)]
    whole = counted(lambda: generator.generate(generator.noise([0]), text))
    return {"groups": groups, "verdicts": verdicts, "scores": scores, "costs": costs, "whole": whole}


def overrides(candidates: int, steps: int) -> list[str]:
    """Keys of the run: equal steps, all candidates of a prompt at once."""
    sigmas = [1 - step / steps for step in range(steps)]
    return [
        f"num_inference_steps={steps}", f"pipeline_arguments={{sigmas: {sigmas}}}", f"num_samples={candidates}",
        f"micro_batch={candidates}",
    ]  # fmt: skip


def cost(generator: DiffusersPipeline, text: PipelineText, block: int, step: int) -> int:
    """FLOPs of one candidate until the block of this step."""
    settings = replace(generator.settings, hidden_step=step)
    stopped = DiffusersPipeline(generator.pipeline, generator.description, settings)
    return counted(lambda: stopped.prefix(generator.noise([0]), text, block))


def rows(found: dict[str, Any], candidates: int) -> list[dict[str, Any]]:
    """Per step: a candidate's share of a picture's FLOPs, what best-of-N costs in pictures, and its figures."""
    groups, verdicts = found["groups"], found["verdicts"]
    out = []
    for step, (scores, cost) in enumerate(zip(found["scores"], found["costs"], strict=True), start=1):
        share = cost / found["whole"]
        best = metrics.best_of_n(groups, scores, verdicts, candidates)
        aucs = metrics.group_aucs(groups, scores, verdicts)
        out.append({
            "step": step, "share": share, "pictures": candidates * share + (1 - share),
            "best": bootstrap(list(best.values())), "auc": bootstrap(list(aucs.values())),
        })  # fmt: skip
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
        f"| step read | FLOPs of a candidate | best of {candidates} costs, pictures | best of {candidates} | AUC |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['step']} of {len(found['scores'])} | {100 * row['share']:.0f} % | {row['pictures']:.1f} "
        f"| {percent(row['best'])} | {row['auc'].mean:.3f} [{row['auc'].low:.3f}, {row['auc'].high:.3f}] |"
        for row in rows(found, candidates)
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m vhs.tinyworld.early_exit", description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=120, help="prompts that no stage trained on (%(default)s)")
    parser.add_argument("--candidates", type=int, default=8, help="N (%(default)s)")
    parser.add_argument("--steps", type=int, default=8, help="denoising steps (%(default)s)")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    records = sample_prompts(args.prompts, seed=2027, split="test")
    asked = [Prompt(i, record["prompt"], record) for i, record in enumerate(records)]
    found = measure(asked, args.candidates, args.steps)
    print(table(found, args.candidates))
    print(json.dumps({"prompts": args.prompts, "candidates": args.candidates, "steps": args.steps}))


if __name__ == "__main__":
    main()
