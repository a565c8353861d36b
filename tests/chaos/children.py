"""A command in a child of this process, which has imported what commands import: whole commands in little time."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import resource
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from vhs.commands import main as vhs

MEMORY = 6 * 2**30
"""Bytes that a command may take beyond what this process has."""
OFFLINE = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
IMPORTED = "imported.txt"
WITHOUT = re.compile(r"(__|torch\.(testing|utils\.tensorboard)|torch\._inductor|tests|pytest)")
"""What is not imported ahead."""


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code (negative for a signal; None: it did not end), and what it said."""

    code: int | None
    said: str

    @property
    def errors(self) -> list[str]:
        """The lines of error; progress bars are none."""
        return [line for line in re.split(r"[\r\n]", self.said) if line.startswith("error: ")]

    @property
    def line(self) -> str:
        """What was wrong in one line: the error's, or a traceback's last place in the project and its exception."""
        lines = [line.strip() for line in re.split(r"[\r\n]", self.said) if line.strip()] or [""]
        places = [line for line in lines if line.startswith("File ") and "/vhs/" in line]
        return (self.errors or [" ".join([*places[-1:], lines[-1]])])[0][:400]


def prepare() -> None:
    """One thread, so that children can be forked, and nothing is looked up on the Hub."""
    os.environ.update(OFFLINE)
    import torch

    torch.set_num_threads(1)


def own_things() -> None:
    """In a child: bars with a lock of its own, and torch's pool of threads made anew.

    The parent's lock is shared by all children, and one that was killed while it held it would stop them all. The
    parent's pool is none in a child, and two threads that find that out at once stop at an assertion of torch's.
    """
    import torch
    from tqdm import tqdm

    tqdm.set_lock(threading.RLock())
    torch.set_num_threads(1)


@dataclass(frozen=True)
class Child:
    """A command at work: its process, and the file of what it says, which has no name that it could reach."""

    process: int
    said: IO[bytes]


def start(words: Sequence[str], here: Path, change: Callable[[], None] = lambda: None) -> Child:
    """Starts the command in the working folder `here`, with no other home. `change` is called there before it
    begins."""
    said = tempfile.TemporaryFile()  # noqa: SIM115
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            own_things()
            _surround(here, said.fileno(), change)
            code = vhs(words)
            if os.environ.get(IMPORTED):
                Path(os.environ[IMPORTED]).write_text("\n".join(sys.modules))
            os._exit(code)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:  # whatever cannot be said: nothing of the parent goes on in the child
            os._exit(1)
    return Child(child, said)


def end(child: Child, limit: float) -> Ended:
    """How a command ends; it is killed after `limit` seconds."""
    with child.said:
        code = _wait(child.process, limit)
        child.said.seek(0)
        return Ended(code, child.said.read().decode("utf-8", errors="replace"))


def call(words: Sequence[str], here: Path, limit: float, change: Callable[[], None] = lambda: None) -> Ended:
    """`start` and `end`."""
    return end(start(words, here, change), limit)


def warm(words: Sequence[str], here: Path, limit: float) -> Ended:
    """`call`, and then imports here what the command has imported there."""
    file = here.with_name(IMPORTED)
    os.environ[IMPORTED] = str(file)
    try:
        ended = call(words, here, limit)
    finally:
        del os.environ[IMPORTED]
    for name in file.read_text().splitlines() if file.exists() else ():
        if name not in sys.modules and not WITHOUT.match(name):
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    return ended


def _surround(here: Path, said: int, change: Callable[[], None]) -> None:
    os.chdir(here)
    os.environ["HOME"] = str(here)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream, file in enumerate((nowhere, nowhere, said)):
        os.dup2(file, stream)
    change()
    for stream, name, errors in ((1, "stdout", "strict"), (2, "stderr", "backslashreplace")):  # as Python opens them
        setattr(sys, name, open(stream, "w", encoding="utf-8", errors=errors, closefd=False))  # noqa: SIM115
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))


def _wait(child: int, limit: float) -> int | None:
    end = time.monotonic() + limit
    while time.monotonic() < end:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None
