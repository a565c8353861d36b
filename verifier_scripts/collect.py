"""K variants of every prompt through the generator: hidden states, final latents, pictures.

    python verifier_scripts/collect.py --config configs/train/collect_tiny.yaml
    python verifier_scripts/collect.py --config configs/train/collect_tiny.yaml "blocks=[1, 5, 7, 9, 19]" candidates=4
    accelerate launch verifier_scripts/collect.py --config configs/train/collect_sana_sprint.yaml

The same command goes on after an interruption. Keys are explained in docs/training.md.
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
        from vhs.training.commands import run_collect
        from vhs.training.config import load_config
        from vhs.training.data_config import CollectConfig

        config = load_config(CollectConfig, arguments.config, arguments.overrides)
        line = run_collect(config, say=lambda line: print(line, file=sys.stderr))
        if line:
            print(line)
    except VHSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the shards that are done stay, the same command goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
