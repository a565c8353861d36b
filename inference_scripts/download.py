"""Fetches and verifies everything that a run of a configuration needs; afterwards it works with HF_HUB_OFFLINE=1.

    python inference_scripts/download.py --config configs/sana_sprint_hidden_bo32.yaml

Repositories go into the Hub's cache (HF_HOME), single files to the paths that the configuration names. An interrupted
download goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vhs.config.run import load_config
from vhs.errors import VHSError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="YAML file of the run")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="configuration keys that replace the file's")
    arguments = parser.parse_intermixed_args()
    try:
        from vhs.checkpoints.download import fetch_all
        from vhs.resolve import resolve

        fetch_all(resolve(load_config(arguments.config, arguments.overrides), fetch="configs").downloads)
    except VHSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
