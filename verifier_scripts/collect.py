"""K variants of every prompt through the generator: hidden states, final latents, pictures.

    python verifier_scripts/collect.py --config configs/train/collect_tiny.yaml
    python verifier_scripts/collect.py --config configs/train/collect_tiny.yaml "blocks=[1, 5, 7, 9, 19]" candidates=4
    accelerate launch verifier_scripts/collect.py --config configs/train/collect_sana_sprint.yaml

The same command goes on after an interruption. Keys are explained in docs/training.md.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vhs.config.yamlfile import load
from vhs.training.commands import command, run_collect
from vhs.training.data.tasks import CollectConfig


def main() -> int:
    return command(
        __doc__,
        partial(load, CollectConfig),
        run_collect,
        "the shards that are done stay, the same command goes on",
    )


if __name__ == "__main__":
    sys.exit(main())
