"""One stage of training a verifier: the connector on captions, or connector and LLM on yes and no.

    python verifier_scripts/train.py --config configs/train/align_tiny.yaml
    python verifier_scripts/train.py --config configs/train/finetune_tiny.yaml seed=1 name=seed_1
    accelerate launch --config_file configs/accelerate/ddp.yaml verifier_scripts/train.py --config <file.yaml>

`cont=true` goes on from the last saved state. Keys are explained in docs/training.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vhs.errors import VHSError  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="YAML file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="configuration keys that replace the file's")
    arguments = parser.parse_intermixed_args()
    try:
        from vhs.training.commands import run_train
        from vhs.training.config import TrainConfig, load_config

        config = load_config(TrainConfig, arguments.config, arguments.overrides)
        line = run_train(config, say=lambda line: print(line, file=sys.stderr))
        if line:
            print(line)
    except VHSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; go on from the last saved state with cont=true", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
