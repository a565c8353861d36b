"""Writes prompts with GenEval's metadata: by default the demo's, of combinations no stage trains on.

The demo's are the first 60 draws of seed 0 from the held-out split, ten of each tag, each prompt once: single_object
has 8 captions in all, so 58 are left. Nobody looked at what becomes of them first.

python -m vhs.tinyworld.write_prompts
python -m vhs.tinyworld.write_prompts --split train --count 600 --seed 1 --output outputs/tinyworld/train_prompts.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from vhs.records import TAGS
from vhs.tinyworld import recipe
from vhs.tinyworld.scenes import sample_prompts


def write(path: Path, count: int, seed: int, split: str) -> None:
    """`count` prompts of a split (train or test), the six tags alike and one after the other, as GenEval JSON.

    Of the test split each prompt is written once, so that no tag has more prompts than captions.
    """
    drawn = sample_prompts(count, seed=seed, split=split)
    if split == "test":
        drawn = list({record["prompt"]: record for record in drawn}.values())
    ordered = sorted(drawn, key=lambda record: TAGS.index(record["tag"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("[\n" + ",\n".join(map(json.dumps, ordered)) + "\n]\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m vhs.tinyworld.write_prompts")
    parser.add_argument("--split", choices=["train", "test"], default="test")
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("data/tiny_prompts.json"))
    args = parser.parse_args()
    write(args.output, args.count, args.seed, args.split)


if __name__ == "__main__":
    recipe.command(main)
