"""Seeded malformed inputs to every command: each is refused in one line or taken; no traceback, hang or code that runs.

    python -m tests.chaos.malformed                  cases 0 to 299
    python -m tests.chaos.malformed --cases 3000
    python -m tests.chaos.malformed --first 17 --cases 1
    python -m tests.chaos.malformed --cases 50 --only demo "bench stop"

A case has the whole files of a command (`tests.chaos.scenes`) in a folder of its own, damages one of those that the
command reads as its number says (`tests.chaos.damage`), and runs the command there, in a process with no more than 6
GiB of memory. The last lines count what came of the cases; those that ended otherwise are printed with their command.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shlex
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.chaos.children import Ended, call, prepare
from tests.chaos.damage import MARK, damage
from tests.chaos.scenes import World, scenes

LIMIT = 60.0
"""Seconds after which a case counts as one that hangs."""
HELD = ("refused", "taken")


def one(number: int, world: World, only: Sequence[str] = ()) -> tuple[str, str, str]:
    """(outcome, what was damaged, what was said) of a case, of the commands `only` where there are any; the outcome is
    one of HELD, or says what went wrong."""
    rng = random.Random(number)
    names = sorted(only or world.scenes)
    name = rng.choices(names, [world.scenes[name].weight for name in names])[0]
    folder = world.folder.with_name(f"{number:05d}")
    here = folder / "two" / "down"  # damaged paths that lead up stay inside
    what = "not damaged"
    try:
        scene = world.case(name, here)
        what = damage(here, scene.reads, rng)
        ended = call(scene.words, here, LIMIT, scene.before)
        return outcome(ended, here), f"{name}: {what}", ended.line
    except Exception:  # this tool's own mistake is one case's, and counts as one that did not hold
        return "no case", f"{name}: {what}", " ".join(traceback.format_exc(limit=-1).split())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def outcome(ended: Ended, here: Path) -> str:
    """How a command's end counts."""
    if (here / MARK).exists():
        return "code has run"
    if ended.code is None:
        return "hang"
    if "Traceback (most recent call last)" in ended.said:
        return "traceback"
    if ended.code == 0:
        return "taken"
    if ended.code != 2 or len(ended.errors) != 1:
        return f"exit code {ended.code} with {len(ended.errors)} lines of error"
    return "refused"


def run_cases(
    first: int, count: int, work: Path, say: Callable[[str], None] = print, only: Sequence[str] = ()
) -> Counter[str]:
    """Runs the cases, says what was wrong with each that did not hold; returns how many ended in which way."""
    world, outcomes = World(work / "whole"), Counter[str]()
    for number in range(first, first + count):
        before, started = _seconds(), time.monotonic()
        found, what, said = one(number, world, only)
        outcomes[found] += 1
        if found not in HELD:
            named = f" --only {shlex.join(only)}" if only else ""
            say(f"{found}: {what}: {said}\n    python -m tests.chaos.malformed --first {number} --cases 1{named}")
        elif count == 1 or "VHS_CHAOS_ALL" in os.environ:
            took = f"{_seconds() - before:.2f} s of CPU, {time.monotonic() - started:.2f} s"
            say(f"{number} {found} ({took}): {what}: {said}")
    return outcomes


def _seconds() -> float:
    """CPU seconds of this process and its children so far."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=scenes(), default=(), help="of these commands")
    args = parser.parse_args()
    prepare()
    with tempfile.TemporaryDirectory() as work:
        outcomes = run_cases(args.first, args.cases, Path(work), lambda line: print(line, flush=True), args.only)
    held = sum(outcomes[name] for name in HELD)
    print(f"{held} of {args.cases} held ({dict(outcomes)}) in {_seconds():.0f} s of CPU")
    return 0 if held == args.cases else 1


if __name__ == "__main__":
    sys.exit(main())
