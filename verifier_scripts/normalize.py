"""Mean and variance of a collected feature: `vhs normalize` in a checkout.

python verifier_scripts/normalize.py --config configs/train/normalize_tiny.yaml
python verifier_scripts/normalize.py --help
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vhs.commands import script

if __name__ == "__main__":
    sys.exit(script(__file__))
