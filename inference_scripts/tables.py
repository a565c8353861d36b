"""The paper's tables from run folders: `vhs tables` in a checkout.

python inference_scripts/tables.py --table main --plan
python inference_scripts/tables.py --help
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vhs.commands import script

if __name__ == "__main__":
    sys.exit(script(__file__))
