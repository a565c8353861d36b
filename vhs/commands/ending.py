"""How every command ends: one line for what was wrong, and the process's exit code."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from vhs import processes
from vhs.errors import VHSError, first_line, is_memory

SURROUNDINGS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.ENAMETOOLONG)
"""What a full disk, a quota, a read-only folder, or a name that no file can have answers, whoever looked there."""
LONGEST_NAME = 200


class Terminated(KeyboardInterrupt):
    """SIGTERM, which unwinds like Ctrl-C."""


def exit_code(call: Callable[[], None], interrupted: str) -> int:
    """Calls, says in one line what went wrong, and returns the exit code; `interrupted` says what Ctrl-C leaves behind.

    0: done. 2: a mistake in what was given. 130: Ctrl-C. 143: SIGTERM. 141: nobody reads the output any more. Any other
    exception is a programming error and passes. Of several processes, the first to fail says so and ends them all.
    """
    _make_output_safe()
    try:
        return _exit_code(call, interrupted)
    except Exception as error:
        if processes.several() and processes.lost(error):
            return _say(f"error: another process has ended, or cannot be reached ({first_line(error)})", 2)
        if not processes.speaks():
            return 2
        raise
    finally:
        processes.leave()


def _exit_code(call: Callable[[], None], interrupted: str) -> int:
    try:
        with _stoppable() as stopped:
            try:
                call()
                processes.wait()
            except Exception:
                if stopped:  # what a signal raises inside a library's C code may become another exception there
                    raise stopped[0] from None
                raise
            finally:  # also after the SystemExit of --help: a closed output is noticed here, not when Python ends
                sys.stdout.flush()
    except VHSError as error:
        return _say(f"error: {' '.join(str(error).splitlines())}", 2)
    except BrokenPipeError:
        _silence()
        return _say("", 128 + signal.SIGPIPE)
    except UnicodeEncodeError as error:  # files hold UTF-8 in any locale, their names what it can say
        encoding = sys.getfilesystemencoding()
        if encoding.lower() == "utf-8":
            raise
        said = f"a path has {error.object[error.start]!a}, which the locale's {encoding} cannot say"
        return _say(f"error: {said}; set LC_ALL=C.UTF-8", 2)
    except OSError as error:
        if error.errno not in SURROUNDINGS:
            raise
        return _say(f"error: {str(error.filename or 'output')[:LONGEST_NAME]}: {error.strerror}", 2)
    except (MemoryError, RuntimeError) as error:
        if not is_memory(error):
            raise
        return _say(f"error: not enough memory ({first_line(error)[:200]}); use a smaller micro_batch", 2)
    except KeyboardInterrupt as stop:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C would only show where Python's own end was cut
        ended, number = (
            ("terminated", signal.SIGTERM) if isinstance(stop, Terminated) else ("interrupted", signal.SIGINT)
        )
        return _say(f"{ended}; {interrupted}", 128 + number)
    return 0


def _say(line: str, code: int) -> int:
    if processes.speaks():
        print(line, file=sys.stderr, flush=True)
    return code


def _make_output_safe() -> None:
    """A closed output takes everything; one that is not UTF-8 shows what it cannot as escapes."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - open as long as the process is
    sys.stdout.reconfigure(errors="backslashreplace")


def _silence() -> None:
    """What is still to be written goes nowhere, so that Python does not complain about it when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)


@contextmanager
def _stoppable() -> Iterator[list[KeyboardInterrupt]]:
    """SIGTERM unwinds like Ctrl-C; yields what signals have raised. Not in one of several processes: while it waits for
    the others it cannot unwind, so there SIGTERM ends it at once, as it does by default."""
    raised: list[KeyboardInterrupt] = []

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raised.append(Terminated() if number == signal.SIGTERM else KeyboardInterrupt())
        raise raised[-1]

    if os.environ.get("WORLD_SIZE", "1") not in ("", "1"):
        yield raised
        return
    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell's background jobs ignore it
        numbers.append(signal.SIGINT)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield raised
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
