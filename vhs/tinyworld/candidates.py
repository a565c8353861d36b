"""Stage 9: candidates of the one-step student, judged by the tiny GenEval evaluator.

Every picture is the generator's own, every label the evaluator's: no mistake is injected. What the evaluator sees is
also said in words, which is what the connector is aligned on.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import torch

from vhs.config import load_config
from vhs.geneval.colors import ColorQuery
from vhs.geneval.evaluate import GenEval
from vhs.records import Detection
from vhs.tinyworld import recipe
from vhs.tinyworld.scenes import TAG_WEIGHTS, in_words, sample_prompts
from vhs.training.commands import run_collect
from vhs.training.data_config import CollectConfig
from vhs.training.labels import line_of, write_rows
from vhs.training.store import CollectedSet

STAGE = "candidates"
PROMPTS, HELD_OUT_PROMPTS, PER_PROMPT = 5200, 1200, 8
RUN = "configs/tiny.yaml"
BLOCKS = [1, 5, 7, 9, 19]
"""Block 7 is the verifier's; the others and the final latent are for the ablations in `configs/paper/`."""


def prompt_file(name: str, prompts: list[dict]) -> str:
    """Where a set's prompts are written."""
    folder = recipe.WORK / STAGE
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"prompts_{name}.json"
    path.write_text(json.dumps(prompts))
    return str(path)


def sets() -> list[str]:
    """The training candidates' parts, in order."""
    return sorted(str(folder) for folder in (recipe.WORK / STAGE).glob("set_*"))


def description(detections: list[Detection], colors: list[str]) -> str:
    """A picture's objects in words: "a red star top left, a blue ring bottom right"."""
    words = [
        in_words(color, seen.label, (seen.box[0] + seen.box[2]) / 2, (seen.box[1] + seen.box[3]) / 2)
        for seen, color in zip(detections, colors, strict=True)
    ]
    return ", ".join(words) or "nothing"


def judge_and_describe(data: CollectedSet, evaluator: GenEval, batch: int = 64) -> None:
    """Write labels.jsonl and captions.jsonl beside the set, one detector pass a picture for both."""
    from tqdm import tqdm

    labels, captions = {}, {}
    for start in tqdm(range(0, len(data), batch), desc="judged", mininterval=10):
        indices = range(start, min(start + batch, len(data)))
        images = [data.picture(i) for i in indices]
        verdicts = evaluator.judge_batch(images, [data.prompt(i).metadata for i in indices])
        shown = [_sorted([d for d in verdict.objects if d.score > 0.5]) for verdict in verdicts]
        queries = [ColorQuery(image, d, d.label) for image, found in zip(images, shown, strict=True) for d in found]
        colors = iter(evaluator.colors.classify(queries))
        for index, verdict, found in zip(indices, verdicts, shown, strict=True):
            labels[index] = verdict
            captions[index] = description(found, [next(colors) for _ in found])
    everything = range(len(data))
    write_rows(data, everything, lambda ids: [line_of(data, i, correct=labels[i].correct, reason=labels[i].reason) for i in ids],
               "labels.jsonl", source="tiny GenEval")  # fmt: skip
    write_rows(data, everything, lambda ids: [line_of(data, i, caption=captions[i]) for i in ids], "captions.jsonl",
               source="tiny GenEval")  # fmt: skip


def _sorted(found: list[Detection]) -> list[Detection]:
    """At most four objects, in reading order."""
    return sorted(sorted(found, key=lambda d: -d.score)[:4], key=lambda d: (d.box[1] > 26, d.box[0]))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m vhs.tinyworld.candidates")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--part", type=int, default=0, help="this part of the prompts, so that several cores can share them")
    parser.add_argument("--parts", type=int, default=1)
    parser.add_argument("--held-out", action="store_true", help="held-out prompts instead, to evaluate on")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.held_out:
        name, seed, prompts = "held_out", 177, sample_prompts(HELD_OUT_PROMPTS, seed=6, split="test")
    else:
        share = slice(args.part * PROMPTS // args.parts, (args.part + 1) * PROMPTS // args.parts)
        prompts = sample_prompts(PROMPTS, seed=5, split="train", tags=tuple(TAG_WEIGHTS))[share]
        name, seed = f"set_{args.part}", 77 + args.part
    output = str(recipe.WORK / STAGE / name)
    collect = CollectConfig(
        run=RUN, annotation=prompt_file(name.removeprefix("set_"), prompts), output=output, candidates=PER_PROMPT, blocks=BLOCKS,
        latent=True, pictures="png", seed=seed, micro_batch=PER_PROMPT,
    )  # fmt: skip
    print(run_collect(collect, print))
    data = CollectedSet(output)
    judge_and_describe(data, GenEval.from_config(load_config(RUN)))
    correct = [json.loads(line)["correct"] for line in (data.folder / "labels.jsonl").read_text().splitlines()]
    by_tag = {}
    for index, value in enumerate(correct):
        by_tag.setdefault(data.prompt(index).metadata["tag"], []).append(value)
    recipe.log(STAGE, set=name, samples=len(correct), correct=round(float(np.mean(correct)), 4),
               **{tag: round(float(np.mean(values)), 4) for tag, values in by_tag.items()})  # fmt: skip


if __name__ == "__main__":
    main()
