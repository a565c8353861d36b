"""Candidates of the one-step student, judged by the tiny GenEval evaluator.

Every picture is the generator's own, every label the evaluator's: no mistake is injected. What the evaluator sees is
also put into words, on which the connector is aligned, and each picture is judged against a few other prompts as well,
so that the verifier has to look at it.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter

import numpy as np
import torch

from vhs.config.run import load_config
from vhs.geneval.evaluate import GenEval
from vhs.geneval.spec import resolve_judge
from vhs.records import Detection
from vhs.tinyworld import recipe
from vhs.tinyworld.language_model import candidate_record, true_relations, two_shapes
from vhs.tinyworld.scenes import (  # fmt: skip
    COLORS,
    HELD_OUT_PAIRS,
    NUMBERS,
    OPPOSITE,
    TAG_WEIGHTS,
    Scene,
    SceneObject,
    caption_record,
    contrast,
    held_out,
    in_words,
    sample_prompts,
)  # fmt: skip
from vhs.tinyworld.worlds import SANA, WORLDS, World
from vhs.training.data.captions import with_colors
from vhs.training.data.commands import run_collect
from vhs.training.data.features import LARGEST
from vhs.training.data.labels import line_of, write_rows
from vhs.training.data.store import CollectedSet
from vhs.training.data.tasks import CollectConfig

STAGE = "candidates"
PER_PROMPT = 8
OTHER_PROMPTS = 2
PICTURES = 64
"""Judged together, and made together where the device is no CPU."""
CLIP = str(recipe.CKPTS / "clip_vision")


def prompt_file(world: World, name: str, prompts: list[dict]) -> str:
    """Where a set's prompts are written."""
    folder = recipe.WORK / world.stage(STAGE)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"prompts_{name}.json"
    path.write_text(json.dumps(prompts), encoding="utf-8")
    return str(path)


def sets(world: World = SANA) -> list[str]:
    """The training candidates' parts, in order."""
    return sorted(str(folder) for folder in (recipe.WORK / world.stage(STAGE)).glob("set_*"))


def description(objects: list[tuple[Detection, str]], rng: np.random.Generator) -> str:
    """A picture's objects in words, in any order: "a red star top left, a blue ring bottom right".

    In reading order the tokens' order would say where an object is, and a connector would not have to."""
    words = [
        in_words(color, seen.label, (seen.box[0] + seen.box[2]) / 2, (seen.box[1] + seen.box[3]) / 2)
        for seen, color in objects
    ]
    return ", ".join(words[i] for i in rng.permutation(len(words))) or "nothing"


def speakable(objects: list[tuple[Detection, str]]) -> bool:
    """No object is of a held-out (shape, colour) pair: the generator also draws those, but no caption may name one."""
    return not any((seen.label, color) in HELD_OUT_PAIRS for seen, color in objects)


def judge_and_describe(data: CollectedSet, evaluator: GenEval, batch: int = PICTURES) -> None:
    """Write labels.jsonl, captions.jsonl and more.jsonl beside the set, with one detector pass per picture.

    A picture of a held-out (shape, colour) pair gets no caption.
    """
    from tqdm import tqdm

    labels, captions, more = {}, {}, {}
    for start in tqdm(range(0, len(data), batch), desc="judged", mininterval=10):
        indices = range(start, min(start + batch, len(data)))
        images = [data.picture(i) for i in indices]
        found = evaluator.detector.detect(images, evaluator.thresholds.lowest)
        verdicts = evaluator.judge_detections(images, [data.prompt(i).metadata for i in indices], found)
        clear = [sorted((d for d in objects if d.score > 0.5), key=lambda d: -d.score)[:4] for objects in found]
        shown = with_colors(evaluator, images, clear)
        asked = [
            other_records(_as_scene(data.prompt(i).metadata, objects), np.random.default_rng([i, 8]))
            for i, objects in zip(indices, shown, strict=True)
        ]
        owner = [k for k, records in enumerate(asked) for _ in records]
        judged = evaluator.judge_detections(
            [images[k] for k in owner], [record for records in asked for record in records], [found[k] for k in owner]
        )
        answers = iter(judged)
        for k, index in enumerate(indices):
            labels[index] = verdicts[k]
            if speakable(shown[k]):
                captions[index] = description(shown[k], np.random.default_rng([index, 9]))
            more[index] = [(record["prompt"], next(answers).correct) for record in asked[k]]
    rows = {
        "labels.jsonl": lambda i: [{"correct": labels[i].correct, "reason": labels[i].reason}],
        "captions.jsonl": lambda i: [{"caption": captions[i]}] if i in captions else [],
        "more.jsonl": lambda i: [{"prompt": prompt, "correct": fits} for prompt, fits in more[i]],
    }
    for file, of in rows.items():
        write_rows(
            data,
            range(len(data)),
            lambda ids, of=of: [line_of(data, i, **values) for i in ids for values in of(i)],
            file,
            source="tiny GenEval",
        )


def _as_scene(metadata: dict, seen: list[tuple[Detection, str]]) -> Scene:
    """What the evaluator sees in a picture, as a scene."""
    objects = []
    for found, color in seen:
        left, top, right, bottom = found.box
        size = (right - left + bottom - top) / 4
        objects.append(SceneObject(found.label, color, (left + right) / 2, (top + bottom) / 2, size, COLORS[color]))
    return Scene(metadata["prompt"], metadata, tuple(objects), (0, 0, 0), 0)


def other_records(scene: Scene, rng: np.random.Generator) -> list[dict]:
    """Training captions besides the picture's own: some true of what it shows, some with one thing changed.

    About two different shapes, a relation that holds and its opposite are asked, and their colours and a contrast;
    about several of one shape, their number and another one."""
    if not scene.objects:
        return []
    drawn = [candidate_record(scene, rng) for _ in range(OTHER_PROMPTS)]
    first, other = two_shapes(scene, rng)
    if other is not None:
        shapes = [first.shape, other.shape]
        for relation in true_relations(scene, shapes)[:1]:
            drawn += [caption_record("position", shapes, relation=said) for said in (relation, OPPOSITE[relation])]
        if first.color != other.color:
            drawn.append(caption_record("color_attr", shapes, [first.color, other.color]))
            drawn.append(contrast(drawn[-1], rng))
    drawn += numbers(scene, rng)
    wanted = [record for record in drawn if record["prompt"] != scene.caption and not held_out(record)]
    return list({record["prompt"]: record for record in wanted}.values())


def numbers(scene: Scene, rng: np.random.Generator) -> list[dict]:
    """Of one of the shapes that are there several times: the number that is true, and another one."""
    there = Counter(obj.shape for obj in scene.objects)
    several = sorted(shape for shape, count in there.items() if count in NUMBERS)
    if not several:
        return []
    shape = several[rng.integers(len(several))]
    false = [count for count in NUMBERS if count != there[shape]]
    said = (there[shape], false[rng.integers(len(false))])
    return [caption_record("counting", [shape], count=count) for count in said]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m vhs.tinyworld.candidates")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--world", choices=list(WORLDS), default=SANA.name, help="default: %(default)s")
    parser.add_argument(
        "--part", type=int, default=0, help="this part of the prompts, so that several cores can share them"
    )
    parser.add_argument("--parts", type=int, default=1)
    parser.add_argument("--held-out", action="store_true", help="held-out prompts instead, to evaluate on")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ... (default: %(default)s)")
    parser.add_argument(
        "--dtype",
        choices=("bfloat16", *LARGEST),
        default="bfloat16",
        help="how features are stored; 8 bits go into a set of their own, candidates_<dtype> (default: %(default)s)",
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    world = WORLDS[args.world]
    if args.held_out:
        name, seed, prompts = "held_out", 177, sample_prompts(world.held_out_prompts, seed=6, split="test")
    else:
        share = slice(args.part * world.prompts // args.parts, (args.part + 1) * world.prompts // args.parts)
        prompts = sample_prompts(world.prompts, seed=5, split="train", tags=tuple(TAG_WEIGHTS))[share]
        name, seed = f"set_{args.part}", 77 + args.part
    stage = world.stage(STAGE)
    own = "" if args.dtype == "bfloat16" else f"_{args.dtype}"
    output = str(recipe.WORK / f"{stage}{own}" / name)
    collect = CollectConfig(
        run=world.run, run_overrides=[f"device={args.device}"],
        annotation=prompt_file(world, name.removeprefix("set_") + own, prompts), output=output,
        candidates=PER_PROMPT, blocks=list(world.blocks), latent=True, clip=CLIP, dtype=args.dtype, pictures="png",
        seed=seed,
        micro_batch=PER_PROMPT if args.device == "cpu" else PICTURES, require_records=True,
    )  # fmt: skip
    print(run_collect(collect, print).line())
    data = CollectedSet(output)
    judge_and_describe(data, resolve_judge(load_config(world.run), args.device).fetched().load())
    correct = [json.loads(line)["correct"] for line in (data.folder / "labels.jsonl").open(encoding="utf-8")]
    by_tag = {}
    for index, value in enumerate(correct):
        by_tag.setdefault(data.prompt(index).metadata["tag"], []).append(value)
    recipe.log(stage, set=name + own, samples=len(correct), correct=round(float(np.mean(correct)), 4),
               **{tag: round(float(np.mean(values)), 4) for tag, values in by_tag.items()})  # fmt: skip


if __name__ == "__main__":
    recipe.command(main)
