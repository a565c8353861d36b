"""What collected pictures and prompts are called: verdicts, metadata, captions, CLIP-Score, prompt files.

    python verifier_scripts/label.py --config configs/train/label_tiny.yaml
    python verifier_scripts/label.py --config configs/train/metadata_rules.yaml annotation=my_prompts.txt
    accelerate launch verifier_scripts/label.py --config configs/train/caption_gemma.yaml

The key `task` of the configuration says which; docs/training.md explains them.
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
        from vhs.training.data_config import load_label_config
        from vhs.training.label_commands import run_label

        config = load_label_config(arguments.config, arguments.overrides)
        line = run_label(config, say=lambda line: print(line, file=sys.stderr))
        if line:
            print(line)
    except VHSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the parts that are done stay, the same command goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
