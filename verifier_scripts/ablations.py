"""The paper's ablations in miniature: `vhs ablations` in a checkout.

python verifier_scripts/ablations.py --table
python verifier_scripts/ablations.py --help
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vhs.commands import script

if __name__ == "__main__":
    sys.exit(script(__file__))
