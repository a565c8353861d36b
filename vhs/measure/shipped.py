"""Memory of the shipped configurations, counted once: data/counted_memory.json.

    python -m vhs.measure.shipped            # which are missing? exit code 1 where one is
    python -m vhs.measure.shipped --write    # counts those (seconds each)

Beside each run's own micro-batch, half and twice as much are counted. What is in the file is not counted again, and a
new count replaces the earlier one of its name; delete the file after a change of the count itself.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace

from vhs.config.run import load_config
from vhs.errors import VHSError
from vhs.files import read_json, write_json
from vhs.measure.needs import SHIPPED, Method, method_of
from vhs.paths import PROJECT
from vhs.resolve import resolve

FOLDERS = ("configs", "configs/paper", "configs/tiny_tables")
MICRO_BATCHES = (4, 16)
"""Of the method's main configurations, those in the first folder."""


def methods(folders: Sequence[str] = FOLDERS) -> Iterator[tuple[str, Method]]:
    """(a name, what is counted) of every shipped run that can be, in the precision that `dtype: auto` is on a GPU, and
    on the device that it names."""
    for folder in folders:
        for file in sorted((PROJECT / folder).glob("*.yaml")):
            try:
                run = resolve(load_config(file), fetch="nothing")
            except VHSError:  # weights that are the user's own
                continue
            for dtype in dict.fromkeys(("bfloat16", run.models.dtype if run.config.device == "cpu" else "bfloat16")):
                if (method := method_of(run, dtype)) is None:
                    continue
                ladder = MICRO_BATCHES if folder == FOLDERS[0] and run.config.num_samples > 1 else ()
                for at_once in dict.fromkeys((method.at_once, *ladder)):
                    yield f"{file.stem}, {dtype}, {at_once} at once", replace(method, at_once=at_once)


def main() -> None:
    """Says what is missing, or counts it."""
    counted = read_json(SHIPPED) if SHIPPED.is_file() else {}
    missing = {method.key: (name, method) for name, method in reversed(list(methods())) if method.key not in counted}
    for key, (name, method) in sorted(missing.items(), key=lambda one: one[1][0]):
        print(name, flush=True)
        if "--write" in sys.argv:
            found = method.count()
            counted = {old: row for old, row in counted.items() if row["of"] != name}  # of weights shipped before
            counted[key] = {"of": name, "weights": found.weights, "stages": found.stages}
            write_json(SHIPPED, counted)
    sys.exit(bool(missing) and "--write" not in sys.argv)


if __name__ == "__main__":
    main()
