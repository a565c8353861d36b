"""Runs over the same prompts side by side: `vhs compare` in a checkout.

python inference_scripts/compare.py outputs/tiny outputs/tiny_prod
python inference_scripts/compare.py --help
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vhs.commands import script

if __name__ == "__main__":
    sys.exit(script(__file__))
