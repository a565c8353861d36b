"""Mean and variance of a collected feature, in the release's two files.

python verifier_scripts/normalize.py --config configs/train/normalize_tiny.yaml
python verifier_scripts/normalize.py --config configs/train/normalize_tiny.yaml feature=hidden_5
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vhs.errors import VHSError  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="YAML file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="configuration keys that replace the file's")
    arguments = parser.parse_intermixed_args()
    try:
        from vhs.training.commands import run_normalize
        from vhs.training.config import load_config
        from vhs.training.data_config import NormalizeConfig

        config = load_config(NormalizeConfig, arguments.config, arguments.overrides)
        line = run_normalize(config, say=lambda line: print(line, file=sys.stderr))
        if line:
            print(line)
    except VHSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
