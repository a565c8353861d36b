"""Static slices: any number of processes, and another number when continuing, end in the bytes of one process.

Here the processes work one after the other: the first one's last wait is where the others do their part.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.runs.test_runner import contents, run
from vhs.processes import Process
from vhs.runs import runner

LAST = 4
"""The wait after which everybody's prompts are done."""


def in_processes(keys: dict[str, Any], count: int, monkeypatch, missing: Sequence[int] = ()) -> Path:
    """A run as `count` processes, of which those in `missing` stop before they have done anything."""

    def start(index: int) -> Path:
        waits = []

        def wait() -> None:
            waits.append(index)
            if index == 0 and len(waits) == LAST:
                for other in range(1, count):
                    if other not in missing:
                        start(other)
                if missing:
                    raise KeyboardInterrupt

        monkeypatch.setattr(runner, "current_process", lambda *_: Process(index, count, index, wait))
        return run(keys if index == 0 else {**keys, "cont": True})[0]

    return start(0)


def annotations(root: Path) -> dict[str, list[Any]]:
    """The annotation files of all processes, end to end."""
    files = sorted(root.glob("gen_eval_*/*_proc_*.json"))
    rows = {kind: [json.loads(file.read_text()) for file in files if file.name[:3] == kind] for kind in ("all", "bes")}
    return {kind: [row for part in parts for row in part] for kind, parts in rows.items()}


def without_annotations(root: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(root).items() if "_proc_" not in name}


@pytest.mark.parametrize("count", [2, 3, 7])
def test_processes_write_what_one_writes(run_keys, judge_keys, monkeypatch, tmp_path: Path, count: int) -> None:
    monkeypatch.setattr("vhs.runs.manifest._git", lambda: None)
    keys = {**run_keys, **judge_keys, "num_samples": 2}
    prompts = Path(keys["annotation"])
    records = json.loads(prompts.read_text())
    prompts.write_text(json.dumps([*records, *records[:2]]))
    root, _, _ = run(keys)
    one = root.rename(tmp_path / "one")
    with pytest.raises(KeyboardInterrupt):
        in_processes(keys, count, monkeypatch, missing=[1])
    assert [folder.is_dir() for folder in (root / "gen_eval_small" / f"{i:05d}" for i in range(5))].count(False) > 0
    in_processes({**keys, "cont": True}, count + 1, monkeypatch)
    assert without_annotations(root) == without_annotations(one)
    assert len(list(root.glob("gen_eval_*/all_*_proc_*"))) == count + 1
    assert [row["prompt"] for row in annotations(root)["all"]] == [row["prompt"] for row in annotations(one)["all"]]
    for kind in ("all", "bes"):
        mine, theirs = ([{**row, "filename": ""} for row in annotations(place)[kind]] for place in (root, one))
        assert mine == theirs
