"""Candidates to train on: hidden states, final latents, pictures: `vhs collect` in a checkout.

python verifier_scripts/collect.py --config configs/train/collect_tiny.yaml
python verifier_scripts/collect.py --help
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vhs.commands import script

if __name__ == "__main__":
    sys.exit(script(__file__))
