"""The commands as a user runs them: a mistake is one line. What they do in a row is in test_chain.py."""

import json
import os
import socket
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


def test_of_several_processes_the_first_does_alone_what_one_does(tmp_path):
    """As under `accelerate launch`: once each asked for the same file, and all but one were refused."""
    (tmp_path / "mine.txt").write_text("a photo of a bench\n")
    (tmp_path / "c.yaml").write_text("task: metadata\nannotation: mine.txt\noutput: records.json\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    call = [sys.executable, str(ROOT / "verifier_scripts" / "label.py"), "--config", "c.yaml"]
    processes = [
        subprocess.Popen(call, cwd=tmp_path, env=os.environ | shared | {"RANK": rank, "LOCAL_RANK": rank},
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for rank in ("0", "1")
    ]  # fmt: skip
    said = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert [out for out, _ in said] == ["records.json: 1 records by rules, 0 by the model, 0 rejected\n", ""]
    assert json.loads((tmp_path / "records.json").read_text())[0]["tag"] == "single_object"
