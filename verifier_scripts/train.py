"""One stage of training a verifier: `vhs train` in a checkout.

python verifier_scripts/train.py --config configs/train/align_tiny.yaml
python verifier_scripts/train.py --help
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vhs.commands import script

if __name__ == "__main__":
    sys.exit(script(__file__))
