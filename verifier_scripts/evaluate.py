"""A verifier on held-out candidates: `vhs evaluate` in a checkout.

python verifier_scripts/evaluate.py --config configs/train/evaluate_tiny.yaml
python verifier_scripts/evaluate.py --help
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vhs.commands import script

if __name__ == "__main__":
    sys.exit(script(__file__))
