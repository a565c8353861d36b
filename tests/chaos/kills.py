"""Kills of whole commands, at random moments or before every rename, unlink and rmdir; resumed, the bytes are equal.

    python -m tests.chaos.kills                            100 random moments of each command
    python -m tests.chaos.kills run train --count 30       of these two
    python -m tests.chaos.kills train --every              before every change of a folder, one after the other
    python -m tests.chaos.kills collect --processes 2      with two processes, all killed together
    python -m tests.chaos.kills run --first 17 --count 1   one case again

A command is first run through; its files are what every killed and resumed one must have. The last line counts.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from tests.chaos.children import Ended, own_things, prepare, warm
from tests.chaos.scenes import inputs
from tests.kills import deadly_from
from vhs.commands import main as vhs

ROOT = Path(__file__).parents[2]
OFTEN = 400
"""More changes of folders than any of the commands makes."""
PATIENCE = 600.0
"""Seconds that a command may take."""
UNEQUAL = ("timings", ".lock", "report.html", "/state/", "train.json", "optimizer")
"""What contains times, or is only a help to go on."""


@dataclass(frozen=True)
class Work:
    """`words` of the command, and of the one that goes on; `before` are commands that it needs; `folder` it writes."""

    name: str
    before: tuple[tuple[str, ...], ...]
    words: tuple[str, ...]
    again: tuple[str, ...]
    folder: str


def works(folder: Path) -> dict[str, Work]:
    """The commands, with their configurations in `folder`."""
    keys = inputs(folder) | {"generation_mode": "dev"}
    write(folder / "run.yaml", keys)
    collect = {"run": str(folder / "run.yaml"), "annotation": keys["annotation"], "output": str(folder / "set"),
               "candidates": 4, "prompts_per_shard": 1, "pictures": "png", "reserve_gib": 0}  # fmt: skip
    write(folder / "collect.yaml", collect)
    write(folder / "label.yaml", {"task": "verdicts", "data": [str(folder / "set")], "judge": str(folder / "run.yaml")})
    train = {"stage": "align", "captions": None, "name": "training", "output_path": str(folder / "trained"),
             "data": [str(folder / "set")], "init": str(folder / "verifier"), "batch_size": 4, "micro_batch": 2,
             "max_steps": 4, "epochs": 10, "save_every": 1, "eval_fraction": 0, "tracker": "none",
             "log_every": 1}  # fmt: skip
    write(folder / "train.yaml", train)

    def words(name: str, *more: str) -> tuple[str, ...]:
        return (name, "--config", str(folder / f"{name}.yaml"), *more)

    again = words("run", "cont=true", "re_eval=true", "detector_size=[96,64]")
    found = (
        Work("run", (), words("run"), words("run", "cont=true"), "out/case"),
        Work("judge", (words("run"),), again, again, "out/case"),
        Work("collect", (), words("collect"), words("collect"), "set"),
        Work("label", (words("collect"),), words("label"), words("label"), "set"),
        Work("train", (words("collect"),), words("train"), words("train", "cont=true"), "trained/training"),
    )
    return {work.name: work for work in found}


def write(file: Path, values: dict[str, Any]) -> None:
    file.write_text(json.dumps(values), encoding="utf-8")  # YAML too


def start(words: tuple[str, ...], at: int | None, processes: int, index: int = 0, said: int | None = None) -> int:
    """The command in processes of its own, of which number `index` is killed before its `at`-th change of a folder and
    the others with it; the group's id. `said` is an open file that standard error goes to."""
    port = _free_port()
    child = os.fork()
    if child:
        return child
    os.setsid()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere if said is None else said, 2)
    if processes == 1:
        _carry_out(words, at)
    _lead(words, at, processes, index, port)


def _lead(words: tuple[str, ...], at: int | None, processes: int, index: int, port: int) -> NoReturn:
    """Starts several processes, and ends as the first that ends badly does, with the others: what torchrun does."""
    started: set[int] = set()

    def end(number: int, frame: FrameType | None) -> NoReturn:
        for child in started:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        os._exit(99)

    signal.signal(signal.SIGTERM, end)
    places = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    for number in range(processes):
        one = os.fork()
        if one == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.environ.update(places, RANK=str(number), LOCAL_RANK=str(number), ACCELERATE_USE_CPU="true")
            _carry_out(words, at if number == index else None)
        started.add(one)
    while started:
        child, status = os.wait()
        started.remove(child)
        if status:
            for other in started:
                os.kill(other, signal.SIGKILL)
            code = os.waitstatus_to_exitcode(status)
            os.kill(os.getpid(), -code) if code < 0 else os._exit(code)
    os._exit(0)


def _carry_out(words: tuple[str, ...], at: int | None) -> NoReturn:
    own_things()
    if at is not None:
        deadly_from(at)
    try:
        os._exit(vhs(words))
    finally:
        os._exit(99)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def through(words: tuple[str, ...], at: int | None = None, processes: int = 1, index: int = 0) -> int:
    """Runs a command to its end; its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(start(words, at, processes, index), 0)[1])


def cut(words: tuple[str, ...], after: float, processes: int) -> bool:
    """Kills a command after so many seconds; whether it was still at work."""
    child = start(words, None, processes)
    end = time.monotonic() + after
    while time.monotonic() < end:
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        time.sleep(0.01)
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:  # it has not made its group yet
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def content(folder: Path) -> dict[str, bytes]:
    """The bytes of what a command wrote, by name."""
    files = (file for file in folder.rglob("*") if file.is_file())
    named = {file.relative_to(folder).as_posix(): file for file in files}
    return {name: file.read_bytes() for name, file in named.items() if not any(part in f"/{name}" for part in UNEQUAL)}


def wrong(before: dict[str, bytes], after: dict[str, bytes]) -> str | None:
    """What differs, None for nothing."""
    names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return f"{len(names)} files differ, first {names[0]}" if names else None


class Case:
    """One command in one folder, as it is before the command and as it is after it."""

    def __init__(self, work: Work, folder: Path, processes: int) -> None:
        self.work, self.folder, self.processes = work, folder, processes
        self.clear()
        for words in work.before:
            assert warm(words, folder, PATIENCE).code == 0, words
        self.beginning = folder / "beginning"
        shutil.rmtree(self.beginning, ignore_errors=True)
        if (folder / work.folder).exists():
            shutil.copytree(folder / work.folder, self.beginning)
        assert warm(work.words, folder, PATIENCE).code == 0, work.words
        self.begin()
        started = time.monotonic()
        assert through(work.words, processes=processes) == 0, work.words
        self.seconds = time.monotonic() - started
        self.expected = content(folder / work.folder)

    def clear(self) -> None:
        for name in ("out", "set", "trained"):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def begin(self) -> None:
        place = self.folder / self.work.folder
        shutil.rmtree(place, ignore_errors=True)
        if self.beginning.exists():
            shutil.copytree(self.beginning, place)

    def resumed(self) -> str | None:
        """Goes on; what is wrong then."""
        words = self.work.again if (self.folder / self.work.folder).exists() else self.work.words
        with tempfile.TemporaryFile() as said:
            child = start(words, None, self.processes, said=said.fileno())
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            said.seek(0)
            line = Ended(code, said.read().decode("utf-8", errors="replace")).line
        return f"exit code {code}: {line}" if code else wrong(self.expected, content(self.folder / self.work.folder))


def at_random(case: Case, number: int) -> str | None:
    """Kills at a random moment; what was quicker than that is tried again."""
    rng = random.Random(number)
    while True:
        case.begin()
        if cut(case.work.words, rng.uniform(0, case.seconds), case.processes):
            return case.resumed()


def at_every_change(case: Case, say: Callable[[str], None]) -> tuple[int, int]:
    """Kills before each change of a folder in turn, by each process; (how many held, how many there are)."""
    held = total = 0
    for index in range(case.processes):
        for at in range(1, OFTEN):
            case.begin()
            if through(case.work.words, at, case.processes, index) != -signal.SIGKILL:
                break
            problem = case.resumed()
            total += 1
            held += problem is None
            if problem:
                say(f"{case.work.name}, before change {at} of process {index}: {problem}")
        else:
            raise AssertionError("it never ends")
    return held, total


def main(words: list[str] | None = None, say: Callable[[str], None] = print) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="run, judge, collect, label, train (default: all)")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="number of the first random case")
    parser.add_argument("--every", action="store_true", help="before every change instead of at random moments")
    parser.add_argument("--processes", type=int, default=1)
    args = parser.parse_args(words)
    prepare()
    good = 0
    with tempfile.TemporaryDirectory() as place:
        found = works(Path(place))
        for name in args.names or found:
            case = Case(found[name], Path(place), args.processes)
            if args.every:
                held, total = at_every_change(case, say)
            else:
                total = args.count
                problems = {number: at_random(case, number) for number in range(args.first, args.first + total)}
                for number, problem in problems.items():
                    if problem:
                        say(f"{name}: {problem}\n    python -m tests.chaos.kills {name} --first {number} --count 1")
                held = sum(problem is None for problem in problems.values())
            say(f"{name}: {held} of {total} held ({case.seconds:.1f} s when nobody kills it)")
            good += held == total
    return 0 if good == len(args.names or found) else 1


if __name__ == "__main__":
    sys.exit(main())
