"""How commands end: what is said in one line, what passes, and the exit codes of signals and closed outputs."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vhs.commands.ending import exit_code
from vhs.errors import RunError

ROOT = Path(__file__).parents[2]
WAITS = """
import signal, sys, time
from vhs.commands.ending import exit_code
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
def work():
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("cleaned up", flush=True)
        time.sleep(0.5)
sys.exit(exit_code(work, "the same command goes on"))
"""


def start(code: str, **environment: str) -> subprocess.Popen:
    buffered = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=buffered | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def raising(error: BaseException):
    def call() -> None:
        raise error

    return call


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RunError("a.json: is\nnot valid"), "error: a.json: is not valid\n"),
        (OSError(errno.ENOSPC, "No space left on device", "out/a"), "error: out/a: No space left on device\n"),
        (PermissionError(errno.EACCES, "Permission denied", "b"), "error: b: Permission denied\n"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "0" * 5000), f"error: {'0' * 200}: File name too long\n"),
    ],
)
def test_what_a_user_can_mend_is_one_line(error, line, capsys) -> None:
    assert exit_code(raising(error), "") == 2
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(
    "error", [KeyError("x"), FileNotFoundError(errno.ENOENT, "No such file", "a"), AssertionError()]
)
def test_a_programming_error_keeps_its_traceback(error) -> None:
    with pytest.raises(type(error)):
        exit_code(raising(error), "")


@pytest.mark.parametrize(
    ("number", "code", "line"),
    [
        (signal.SIGINT, 130, "interrupted; the same command goes on\n"),
        (signal.SIGTERM, 143, "terminated; the same command goes on\n"),
    ],
)
def test_a_signal_unwinds_once_and_says_how_to_go_on(number, code, line) -> None:
    process = start(WAITS)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.stdout.readline() == "cleaned up\n"
    process.send_signal(number)
    assert (process.wait(30), process.stderr.read()) == (code, line)


def test_a_signal_that_a_library_makes_another_error_of_is_still_the_signal() -> None:
    code = WAITS.replace("time.sleep(60)", "stop()").replace(
        "def work():",
        """def stop():
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        raise ValueError("no shape") from None
def work():""",
    )
    process = start(code)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert (process.wait(30), process.stderr.read()) == (130, "interrupted; the same command goes on\n")


def test_sigterm_ends_one_of_several_processes_at_once() -> None:
    process = start(WAITS, WORLD_SIZE="2")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == -signal.SIGTERM and process.stdout.read() == ""


def test_sigterm_is_as_before_when_a_command_has_ended() -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert exit_code(lambda: None, "") == 0
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("arguments", ["['--help']", "['run', '--help']"])
def test_an_output_that_nobody_reads_ends_quietly(arguments) -> None:
    process = start(f"import sys, time; time.sleep(0.2); from vhs.commands import main; sys.exit(main({arguments}))")
    process.stdout.close()
    assert (process.wait(30), process.stderr.read()) == (141, "")


def test_no_output_at_all_is_no_mistake() -> None:
    code = "import sys; from vhs.commands import main; sys.exit(main(['--version']))"
    command = f'{sys.executable} -c "{code}" >&- 2>&-'
    assert subprocess.run(["sh", "-c", command], cwd=ROOT).returncode == 0


def test_a_path_that_the_locale_cannot_say_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(
        "ckpt: none\nannotation: priés.txt\nlatent_verifier: false\nnum_samples: 1\n", encoding="utf-8"
    )
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    words = [sys.executable, "-m", "vhs", "run", "--config", str(tmp_path / "run.yaml")]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "'\\xe9'" in done.stderr and "set LC_ALL=C.UTF-8" in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_under_the_output_is_one_line() -> None:
    code = "import sys; from vhs.commands import main; sys.exit(main(['--help']))"
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (2, "error: output: No space left on device\n")
