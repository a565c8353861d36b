"""GenEval's verdicts on a run or on any pictures: `vhs geneval` in a checkout.

python verifier_scripts/geneval.py --images outputs/tiny
python verifier_scripts/geneval.py --help
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vhs.commands import script

if __name__ == "__main__":
    sys.exit(script(__file__))
