"""Several real processes end together: in seconds where one fails, after `timeout` where one is killed or stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = """
import os, sys, time
from vhs.commands.ending import exit_code
from vhs.errors import RunError
from vhs.processes import current_process
def call():
    process = current_process(timeout={timeout})
    process.wait()
    print("met", flush=True)
    {body}
sys.exit(exit_code(call, "the same command goes on"))
"""


@pytest.fixture
def start() -> Iterator:
    """`start(body, timeout)`: two processes that meet and then run `body`; their `process` tells them apart."""
    running: list[subprocess.Popen] = []

    def begin(body: str, timeout: float = 1.0, count: int = 2) -> list[subprocess.Popen]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        shared = {
            "WORLD_SIZE": str(count),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "OMP_NUM_THREADS": "1",
        }
        code = SCRIPT.format(timeout=timeout, body=body)
        running.extend(
            subprocess.Popen(
                [sys.executable, "-c", code],
                cwd=ROOT,
                env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(count)
        )
        return running

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def ended(processes: list[subprocess.Popen], seconds: float = 60) -> tuple[list[int], list[str]]:
    """Exit codes and standard errors."""
    errors = [process.communicate(timeout=seconds)[1] for process in processes]
    return [process.returncode for process in processes], errors


@pytest.mark.slow
def test_one_that_fails_ends_those_at_work_with_its_line_alone(start) -> None:
    body = "if process.first: raise RunError('prompt 3: something is wrong')\n    time.sleep(300)"
    codes, errors = ended(start(body, count=3))
    assert codes == [2, 2, 2] and errors == ["error: prompt 3: something is wrong\n", "", ""]


def test_one_that_fails_ends_those_that_exchange_tensors_with_its_line_alone(start) -> None:
    body = (
        "import torch; torch.distributed.init_process_group('gloo')\n"
        "    if process.index == 1: raise RunError('the loss is not finite')\n"
        "    while True: torch.distributed.all_reduce(torch.ones(1))"
    )
    codes, errors = ended(start(body))
    assert codes == [2, 2] and errors == ["", "error: the loss is not finite\n"]


@pytest.mark.slow
def test_what_all_of_them_find_is_said_once(start) -> None:
    codes, errors = ended(start("raise RunError('the same in every process')"))
    assert codes == [2, 2] and "".join(errors) == "error: the same in every process\n"


@pytest.mark.slow
def test_a_programming_error_keeps_its_traceback_and_ends_the_others(start) -> None:
    codes, errors = ended(start("if process.first: raise KeyError('ours')\n    process.wait()"))
    assert codes == [1, 2] and "KeyError: 'ours'" in errors[0] and errors[1] == ""


@pytest.mark.parametrize("number", [pytest.param(signal.SIGKILL, marks=pytest.mark.slow), signal.SIGSTOP])
def test_one_that_is_killed_or_stopped_is_noticed_after_the_timeout(start, number: int) -> None:
    processes = start("if process.index == 1: time.sleep(300)\n    process.wait()", timeout=0.05)
    for process in processes:
        assert process.stdout.readline() == "met\n"
    processes[1].send_signal(number)
    _, error = processes[0].communicate(timeout=60)
    assert processes[0].returncode == 2 and error == (
        "error: process 1 of 2 has given no sign of life for 0.05 minutes (timeout): it was killed or stopped; what is "
        "done stays\n"
    )


@pytest.mark.slow
def test_a_slow_one_is_waited_for_past_the_timeout_and_hears_what_the_first_says(start) -> None:
    body = "time.sleep(6 * process.index)\n    process.wait()\n    print(process.agreed([process.index, 'x']))"
    processes = start(body, timeout=0.05)
    ends = [process.communicate(timeout=60) for process in processes]
    assert ends == [("met\n[0, 'x']\n", "")] * 2 and [process.returncode for process in processes] == [0, 0]
