"""`vhs download`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def download(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Fetches and verifies everything that a run of a configuration needs; afterwards it works with HF_HUB_OFFLINE=1.

        vhs download --config configs/sana_sprint_hidden_bo32.yaml

    Repositories go into the Hub's cache (HF_HOME), single files to the paths that the configuration names. An
    interrupted download goes on where it stopped.
    """
    parser.add_argument("--config", required=True, help="YAML file of the run")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="configuration keys that replace the file's")
    arguments = parser.parse_intermixed_args(words)
    from vhs.checkpoints.download import fetch_all
    from vhs.config.run import load_config
    from vhs.resolve import resolve

    fetch_all(resolve(load_config(arguments.config, arguments.overrides), fetch="configs").downloads)
