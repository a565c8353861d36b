"""A verifier on held-out candidates: accuracy, AUC, calibration, best-of-N gain; or the captions it would give.

python verifier_scripts/evaluate.py --config configs/train/evaluate_tiny.yaml
python verifier_scripts/evaluate.py --config configs/train/captions_tiny.yaml
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vhs.config.yamlfile import load
from vhs.training.commands import command, run_evaluate
from vhs.training.config import EvaluateConfig


def main() -> int:
    return command(__doc__, partial(load, EvaluateConfig), run_evaluate, "nothing was written")


if __name__ == "__main__":
    sys.exit(main())
