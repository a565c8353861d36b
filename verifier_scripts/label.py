"""What collected pictures and prompts are called: verdicts, metadata, captions, CLIP-Score, prompt files.

    python verifier_scripts/label.py --config configs/train/label_tiny.yaml
    python verifier_scripts/label.py --config configs/train/metadata_rules.yaml annotation=my_prompts.txt
    accelerate launch verifier_scripts/label.py --config configs/train/caption_gemma.yaml

The key `task` of the configuration says which; docs/training.md explains them.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vhs.training.commands import command
from vhs.training.data.tasks import load_label_config
from vhs.training.data.label_commands import run_label


def main() -> int:
    return command(__doc__, load_label_config, run_label, "the parts that are done stay, the same command goes on")


if __name__ == "__main__":
    sys.exit(main())
