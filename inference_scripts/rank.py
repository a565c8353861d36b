"""Ranks pictures from anywhere: `vhs rank` in a checkout.

python inference_scripts/rank.py --images folder --prompt "a photo of a cat" --verifier clip_score --top 4
python inference_scripts/rank.py --help
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vhs.commands import script

if __name__ == "__main__":
    sys.exit(script(__file__))
