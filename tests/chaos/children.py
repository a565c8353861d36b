"""A command in a child of this process, which has imported what commands import: whole commands in little time."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

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


def start(words: Sequence[str], here: Path, change: Callable[[], None] = lambda: None) -> int:
    """Starts the command in the working folder `here`, with no other home; its process. `change` is called there
    before it begins."""
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            _surround(here, _said(here), change)
            code = vhs(words)
            if os.environ.get(IMPORTED):
                Path(os.environ[IMPORTED]).write_text("\n".join(sys.modules))
            os._exit(code)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
    return child


def end(child: int, here: Path, limit: float) -> Ended:
    """How a command that was started in `here` ends; it is killed after `limit` seconds."""
    return Ended(_wait(child, limit), _said(here).read_text(encoding="utf-8", errors="replace"))


def call(words: Sequence[str], here: Path, limit: float, change: Callable[[], None] = lambda: None) -> Ended:
    """`start` and `end`."""
    return end(start(words, here, change), here, limit)


def _said(here: Path) -> Path:
    return here.with_name(f"{here.name}.said")


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


def _surround(here: Path, said: Path, change: Callable[[], None]) -> None:
    os.chdir(here)
    os.environ["HOME"] = str(here)
    files = os.open(os.devnull, os.O_RDWR), os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream, file in enumerate((files[0], files[0], files[1])):
        os.dup2(file, stream)
    change()
    sys.stdout, sys.stderr = (open(stream, "w", encoding="utf-8", closefd=False) for stream in (1, 2))  # noqa: SIM115
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
