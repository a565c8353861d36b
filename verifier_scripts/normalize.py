"""Mean and variance of a collected feature, in the release's two files.

python verifier_scripts/normalize.py --config configs/train/normalize_tiny.yaml
python verifier_scripts/normalize.py --config configs/train/normalize_tiny.yaml feature=hidden_5
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vhs.training.commands import command, run_normalize
from vhs.training.config import load_config
from vhs.training.data.data_config import NormalizeConfig


def main() -> int:
    return command(__doc__, partial(load_config, NormalizeConfig), run_normalize, "nothing was written")


if __name__ == "__main__":
    sys.exit(main())
