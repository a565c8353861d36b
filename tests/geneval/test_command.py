"""The command itself: exit codes and one line for a mistake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "verifier_scripts" / "geneval.py"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "absent"], "error: absent: no such folder"),
        (["--export", "absent"], "error: --export: needs --to, a new folder"),
        (["--compare", "a.jsonl", "b.jsonl"], "error: a.jsonl: cannot be read"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, arguments, message):
    done = subprocess.run([sys.executable, SCRIPT, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(message) and done.stderr.count("\n") == 1
