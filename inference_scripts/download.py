"""Fetches and verifies everything that a run needs: `vhs download` in a checkout.

python inference_scripts/download.py --config configs/sana_sprint_hidden_bo32.yaml
python inference_scripts/download.py --help
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vhs.commands import script

if __name__ == "__main__":
    sys.exit(script(__file__))
