"""Writes prompts with GenEval's metadata: by default the demo's, six of each tag, of combinations no stage trains on.

python -m vhs.tinyworld.write_prompts
python -m vhs.tinyworld.write_prompts --split train --count 600 --seed 1 --output outputs/tinyworld/train_prompts.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from vhs.records import TAGS
from vhs.tinyworld.scenes import sample_prompts


def write(path: Path, count: int, seed: int, split: str) -> None:
    """`count` prompts of a split (train or test), the six tags alike and one after the other, as GenEval JSON."""
    ordered = sorted(sample_prompts(count, seed=seed, split=split), key=lambda record: TAGS.index(record["tag"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("[\n" + ",\n".join(map(json.dumps, ordered)) + "\n]\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m vhs.tinyworld.write_prompts")
    parser.add_argument("--split", choices=["train", "test"], default="test")
    parser.add_argument("--count", type=int, default=36)
    parser.add_argument("--seed", type=int, default=36)
    parser.add_argument("--output", type=Path, default=Path("data/tiny_prompts.json"))
    args = parser.parse_args()
    write(args.output, args.count, args.seed, args.split)


if __name__ == "__main__":
    main()
