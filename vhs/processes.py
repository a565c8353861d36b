"""Which part of the work this process does, and how several processes end together.

`torchrun`, `accelerate launch` and SLURM start processes that find each other by environment variables. They meet in
one store of counters (torch's TCPStore): a process counts up its own every half second while it lives, one that ends
with an error counts that, and the others follow it. Nothing but training exchanges tensors.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from vhs.errors import ConfigError, RunError, first_line

if TYPE_CHECKING:
    from torch.distributed import Store

TIMEOUT = 30
"""Minutes, where no configuration says otherwise."""
BEAT = 0.5
"""Seconds between two signs of life."""
ENDING = 3.0
"""Seconds that the process with the store waits for the others to hear how it ended."""
NAMES = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Process:
    """Process `index` of `count`; `local` is its number on its machine; `wait` returns when all have called it;
    `agreed(value)` is the first process's value in all of them."""

    index: int = 0
    count: int = 1
    local: int = 0
    wait: Callable[[], None] = lambda: None
    agreed: Callable[[Any], Any] = lambda value: value

    @property
    def first(self) -> bool:
        """The process that writes what belongs to the whole run."""
        return self.index == 0

    def of(self, items: Sequence[int], index: int | None = None) -> list[int]:
        """One contiguous slice of `items` per process; the first `len(items) % count` processes take one more."""
        index = self.index if index is None else index
        size, extra = divmod(len(items), self.count)
        start = index * size + min(index, extra)
        return list(items[start : start + size + (index < extra)])


def several() -> bool:
    """The environment says that this is one of several processes."""
    return os.environ.get("WORLD_SIZE", "") not in ("", "1")


def current_process(timeout: float = TIMEOUT) -> Process:
    """This process among those that `accelerate launch` or `torchrun` started, or the only one.

    The first call meets the others; one that gives no sign of life for `timeout` minutes ends all from then on. Raises
    ConfigError where the environment names several processes but not how they meet, RunError where they do not.
    """
    if not several():
        return Process()
    index, count, local = _places()
    meeting = _meet(index, count, 60 * timeout)
    return Process(index, count, local, meeting.wait, meeting.agreed)


def wait() -> None:
    """Returns when all processes that have met call it."""
    if _meeting is not None:
        _meeting.wait()


def speaks() -> bool:
    """Whether this process, which ends with an error, is to say so: it is the only one, or the first of several to
    fail. The others are told."""
    if not several():
        return True
    try:
        meeting = _meeting or _meet(*_places()[:2], ENDING)
        return meeting.fail()
    except (ConfigError, RunError):
        return True  # they have not met, so nobody else speaks for this one


def leave() -> None:
    """Ends the watch over the others: the last that a process does. Called when Python ends, too."""
    global _meeting
    if _meeting is not None:
        _meeting.leave()
    _meeting = None


def lost(error: BaseException) -> bool:
    """Whether an exception is what an exchange of tensors says where another process has ended."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.distributed.is_available():
        return False
    return isinstance(error, torch.distributed.DistError) or (
        isinstance(error, RuntimeError) and "gloo" in str(error).lower()
    )


class _Meeting:
    """The processes of one command, by way of a store of counters that all of them count up."""

    def __init__(self, store: Store, index: int, count: int, timeout: float) -> None:
        self.store, self.index, self.count, self.timeout = store, index, count, timeout
        self.hosts = index == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != str(True)
        self.waits = 0
        self.over = threading.Event()
        self.watch = threading.Thread(target=self._watch, name="processes", daemon=True)
        self.watch.start()

    def wait(self) -> None:
        """Returns when every process has called it as often."""
        self.waits += 1
        name = f"wait {self.waits}"
        try:
            arrived = self.store.add(name, 1)
            while arrived < self.count:
                time.sleep(0.02)
                arrived = self.store.add(name, 0)
        except RuntimeError as error:
            raise RunError(_gone(error)) from None

    def agreed(self, value: Any) -> Any:
        """The first process's value, which JSON can hold."""
        name = f"agreed {self.waits}"
        if self.index == 0:
            self.store.set(name, json.dumps(value))
        self.wait()
        return json.loads(self.store.get(name))

    def fail(self) -> bool:
        """Tells the others that this process ends with an error; whether it is the first to say so."""
        self.over.set()
        try:
            return self.store.add("failed", 1) == 1
        except RuntimeError:
            return True

    def leave(self) -> None:
        """The last of this process; the one that holds the store stays until the others have gone."""
        self.over.set()
        try:
            self.store.add(f"gone {self.index}", 1)
            until = time.monotonic() + ENDING
            while self.hosts and not all(map(self._left, range(self.count))) and time.monotonic() < until:
                time.sleep(0.02)
        except RuntimeError:
            pass
        self.watch.join(2 * BEAT)

    def _watch(self) -> None:
        """Gives signs of life, and ends this process where another has failed or gives none any more.

        The main thread may be in a kernel or in an exchange of tensors that will never end, so nothing is raised there;
        what a run has written is whole whenever it is stopped.
        """
        seen: dict[int, tuple[int, float]] = {}
        while not self.over.wait(BEAT):
            try:
                self.store.add(f"beat {self.index}", 1)
                if self.store.add("failed", 0) and not self.over.is_set():
                    self._follow(None)
                if (silent := self._silent(seen)) is not None:
                    self._follow(self._about(silent) if self.fail() else None)
            except RuntimeError as error:
                if not self.over.is_set():
                    self._follow(_gone(error))

    def _silent(self, seen: dict[int, tuple[int, float]]) -> int | None:
        """A process whose counter has stood still for too long. `seen` keeps counters and since when they stand."""
        now = time.monotonic()
        for index in range(self.count):
            beats = self.store.add(f"beat {index}", 0)
            if index not in seen or seen[index][0] != beats:
                seen[index] = beats, now
            elif now - seen[index][1] > self.timeout and not self._left(index):
                return index
        return None

    def _left(self, index: int) -> bool:
        return self.store.add(f"gone {index}", 0) > 0

    def _about(self, silent: int) -> str:
        minutes = f"{self.timeout / 60:g} minutes"
        return (
            f"process {silent} of {self.count} has given no sign of life for {minutes} (timeout): it was killed or "
            "stopped; what is done stays"
        )

    def _follow(self, line: str | None) -> NoReturn:
        """Ends this process because of another."""
        try:
            self.store.add(f"gone {self.index}", 1)
        finally:
            if line is not None:
                print(f"error: {line}", file=sys.stderr, flush=True)
            os._exit(2)


_meeting: _Meeting | None = None
_meetings = 0
atexit.register(leave)


def _meet(index: int, count: int, timeout: float) -> _Meeting:
    """The meeting of this command's processes, the same at every call."""
    global _meeting, _meetings
    if _meeting is None:
        from torch.distributed import PrefixStore, rendezvous

        try:
            store, _, _ = next(rendezvous("env://", timeout=timedelta(seconds=timeout)))
        except (RuntimeError, ValueError) as error:
            place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
            raise RunError(
                f"process {index} of {count}: the others cannot be met at {place} ({first_line(error)}); check "
                "MASTER_ADDR and MASTER_PORT, and that all processes were started"
            ) from None
        _meetings += 1  # a store of torchrun's outlives its processes, and those that it starts again use it too
        name = f"vhs {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)} {_meetings}"
        _meeting = _Meeting(PrefixStore(name, store), index, count, timeout)
    return _meeting


def _places() -> tuple[int, int, int]:
    """(index, count, index on its machine) of this process. Raises ConfigError for what the environment lacks."""
    count = _number("WORLD_SIZE", "unset it, or use accelerate launch")
    if count < 1:
        raise ConfigError("WORLD_SIZE: '0' is not a number of processes; unset it, or use accelerate launch")
    if missing := [name for name in NAMES if not os.environ.get(name)]:
        raise ConfigError(
            f"WORLD_SIZE: {count} processes, but {', '.join(missing)} is not set; start them with accelerate launch or "
            "torchrun, or unset WORLD_SIZE"
        )
    index, local, _port = (_number(name, "use torchrun") for name in ("RANK", "LOCAL_RANK", "MASTER_PORT"))
    if index >= count:
        raise ConfigError(f"RANK: {index} of {count} processes (WORLD_SIZE); they are numbered from 0")
    return index, count, local


def _number(name: str, remedy: str) -> int:
    text = os.environ[name]
    if not text.isdecimal():
        what = "number of processes" if name == "WORLD_SIZE" else "number"
        raise ConfigError(f"{name}: {text!r} is not a {what}; {remedy}")
    return int(text)


def _gone(error: BaseException) -> str:
    return f"the first process, which the others meet at, has ended ({first_line(error)})"
