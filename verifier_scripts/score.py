"""Scores of registered verifiers over a run or any pictures: `vhs score` in a checkout.

python verifier_scripts/score.py outputs/run --verifiers tiny_hidden_7 clip_score
python verifier_scripts/score.py --help
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vhs.commands import script

if __name__ == "__main__":
    sys.exit(script(__file__))
