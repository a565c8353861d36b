"""A page to play with: type a prompt, choose verifier and N, watch candidates, scores, winner and timings come in.

    python inference_scripts/demo.py --config configs/tiny.yaml

It needs gradio, in an environment of its own: requirements-demo.txt says how.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

from vhs.config.run import load_config
from vhs.errors import VHSError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/tiny.yaml", help="YAML file (default: %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    parser.add_argument("--port", type=int, help="port (default: the first free one from 7860)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="configuration keys that replace the file's")
    arguments = parser.parse_intermixed_args()
    try:
        from vhs.runs.demo import Session, page

        session = Session(load_config(arguments.config, arguments.overrides))
        page(session).queue().launch(server_name=arguments.host, server_port=arguments.port)
    except VHSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
