"""The commands as a user runs them: a mistake is one line. What they do in a row is in test_chain.py."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

NO_SET = "nowhere/index.json: is missing; a folder that collect.py finished is needed"


def command(name: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    script = str(ROOT / "verifier_scripts" / f"{name}.py")
    return subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, cwd=cwd, timeout=600)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("collect", "run: a\nannotation: b\noutput: c\nblock: [7]\n", "c.yaml:4: block: unknown key; did you mean"),
        (
            "normalize",
            "data: [nowhere]\noutput: x\n",
            NO_SET,
        ),
        ("label", "task: poems\n", "c.yaml:1: task: 'poems' is not a choice"),
        (
            "train",
            "stage: align\nname: a\ndata: [nowhere]\ninit: x\n",
            NO_SET,
        ),
        ("evaluate", "data: [x]\noutput: y\n", "verifier: give `verifier`, or `verifiers`"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, name, text, message):
    (tmp_path / "c.yaml").write_text(text)
    done = command(name, "--config", "c.yaml", cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1
