"""A verifier on held-out candidates: accuracy, AUC, calibration, best-of-N gain; or the captions it would give.

python verifier_scripts/evaluate.py --config configs/train/evaluate_tiny.yaml
python verifier_scripts/evaluate.py --config configs/train/captions_tiny.yaml
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
        from vhs.training.commands import run_evaluate
        from vhs.training.config import EvaluateConfig, load_config

        config = load_config(EvaluateConfig, arguments.config, arguments.overrides)
        line = run_evaluate(config, say=lambda line: print(line, file=sys.stderr))
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
