"""A page to play with: `vhs demo` in a checkout.

python inference_scripts/demo.py --config configs/tiny.yaml
python inference_scripts/demo.py --help
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vhs.commands import script

if __name__ == "__main__":
    sys.exit(script(__file__))
