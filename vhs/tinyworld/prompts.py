"""Writes the demo's prompts, `python -m vhs.tinyworld.prompts`: six of each tag, of combinations no stage trains on."""

from __future__ import annotations

import json
from pathlib import Path

from vhs.records import TAGS
from vhs.tinyworld.scenes import sample_prompts


def main() -> None:
    records = sample_prompts(36, seed=36, split="test")
    ordered = sorted(records, key=lambda record: TAGS.index(record["tag"]))
    Path("data/tiny_prompts.json").write_text("[\n" + ",\n".join(map(json.dumps, ordered)) + "\n]\n")


if __name__ == "__main__":
    main()
