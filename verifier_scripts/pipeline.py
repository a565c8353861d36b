"""A verifier from data files to its figures, every stage by one file: `vhs pipeline` in a checkout.

python verifier_scripts/pipeline.py --config configs/train/tiny.yaml
python verifier_scripts/pipeline.py --help
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vhs.commands import script

if __name__ == "__main__":
    sys.exit(script(__file__))
