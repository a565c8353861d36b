"""Where a user's file ends and the program begins: whatever a file makes a library raise is one line about the file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vhs.errors import CheckpointError, VHSError, first_line, is_failure, is_memory

SAY_ENOUGH = (OSError, ValueError, RuntimeError)
"""Exceptions whose text stands for itself; of others the type is said too (`KeyError: 'weight'`)."""
LONGEST_REASON = 300


@contextmanager
def loading(part: str, place: Path | str, remedy: str = "") -> Iterator[None]:
    """Turns any exception while `part` is read or built from `place` into `<place>: not a usable <part> (<why>)`.

    What fits no memory is not the file's fault and passes, as do errors that are a line already. Only reading and
    building belong inside: elsewhere an exception is a programming error.
    """
    try:
        yield
    except VHSError:
        raise
    except BaseException as error:
        if is_memory(error) or not is_failure(error):
            raise
        reason = first_line(error)
        if reason.endswith(":"):  # a list of what is wrong follows
            reason = f"{reason} {first_line(Exception(str(error).partition(reason)[2]))}"
        reason = reason[:LONGEST_REASON]
        if not isinstance(error, SAY_ENOUGH) and reason != type(error).__name__:
            reason = f"{type(error).__name__}: {reason}"
        raise CheckpointError(f"{place}: not a usable {part} ({reason}){'; ' * bool(remedy)}{remedy}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Without the loading libraries' progress bars and reports: a run has its own, and what is wrong is raised."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    libraries = (diffusers_logging, transformers_logging)
    bars = [library.is_progress_bar_enabled() for library in libraries]
    loggers = [logging.getLogger(name) for name in ("diffusers", "transformers")]
    levels = [logger.level for logger in loggers]
    for library in libraries:
        library.disable_progress_bar()
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for library, shown in zip(libraries, bars, strict=True):
            if shown:
                library.enable_progress_bar()
