"""`vhs demo`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def demo(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """A page to play with: type a prompt, choose verifier and N, watch candidates, scores, winner and timings come in.

        vhs demo --config configs/tiny.yaml

    It needs gradio, in an environment of its own: requirements-demo.txt says how.
    """
    parser.add_argument("--config", default="configs/tiny.yaml", help="YAML file (default: %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    parser.add_argument("--port", type=int, help="port (default: the first free one from 7860)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="configuration keys that replace the file's")
    arguments = parser.parse_intermixed_args(words)
    from vhs.config.run import load_config
    from vhs.runs.demo import Session, page, require_gradio

    require_gradio()  # before models are loaded
    session = Session(load_config(arguments.config, arguments.overrides))
    page(session).queue().launch(server_name=arguments.host, server_port=arguments.port)
