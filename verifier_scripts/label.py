"""Verdicts, captions or metadata of what was collected: `vhs label` in a checkout.

python verifier_scripts/label.py --config configs/train/label_tiny.yaml
python verifier_scripts/label.py --help
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vhs.commands import script

if __name__ == "__main__":
    sys.exit(script(__file__))
