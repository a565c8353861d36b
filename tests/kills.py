"""Kills in the middle of work: before each rename, unlink or rmdir in turn."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

CHANGES = ("replace", "rename", "unlink", "rmdir")


def deadly_from(at: int) -> None:
    """From now on, this process is killed before its `at`-th change of a folder."""
    left = [at]

    def deadly(function):
        def counted(*arguments, **options):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return counted

    for name in CHANGES:
        setattr(os, name, deadly(getattr(os, name)))


def killed(work: Callable[[], None], at: int = 10**9) -> bool:
    """Runs `work` in a child that is killed before its `at`-th change; whether it was. Fails where the work did."""
    child = os.fork()
    if child == 0:
        deadly_from(at)
        try:
            work()
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or not os.WEXITSTATUS(status), "the work failed by itself"
    return os.WIFSIGNALED(status)


def every_kill(work: Callable[[], None], check: Callable[[int], None]) -> int:
    """Kills `work` before each of its changes in turn, from the same beginning, and checks what is left."""
    for at in range(1, 200):
        was_killed = killed(work, at)
        check(at)
        if not was_killed:
            return at - 1
    pytest.fail("it never ends")
