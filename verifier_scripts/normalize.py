"""Mean and variance of a collected feature, in the release's two files.

python verifier_scripts/normalize.py --config configs/train/normalize_tiny.yaml
python verifier_scripts/normalize.py --config configs/train/normalize_tiny.yaml feature=hidden_5
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vhs.config.yamlfile import load
from vhs.training.commands import command, run_normalize
from vhs.training.data.tasks import NormalizeConfig


def main() -> int:
    return command(__doc__, partial(load, NormalizeConfig), run_normalize, "nothing was written")


if __name__ == "__main__":
    sys.exit(main())
