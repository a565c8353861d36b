"""One stage of training a verifier: the connector on captions, or connector and LLM on yes and no.

    python verifier_scripts/train.py --config configs/train/align_tiny.yaml
    python verifier_scripts/train.py --config configs/train/finetune_tiny.yaml seed=1 name=seed_1
    accelerate launch --config_file configs/accelerate/ddp.yaml verifier_scripts/train.py --config <file.yaml>

`cont=true` goes on from the last saved state. Keys are explained in docs/training.md.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vhs.config.yamlfile import load
from vhs.training.commands import command, run_train
from vhs.training.config import TrainConfig


def main() -> int:
    return command(__doc__, partial(load, TrainConfig), run_train, "go on from the last saved state with cont=true")


if __name__ == "__main__":
    sys.exit(main())
