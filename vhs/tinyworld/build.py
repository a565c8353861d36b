"""A world's recipe, from nothing: `python -m vhs.tinyworld.build sana [--jobs 2] [--start student]`.

Each stage runs in a process of its own as soon as those that it reads from are done, `--jobs` of them beside each
other, one core each. A stage goes on from its last saved state, so that the same command finishes what was interrupted.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from vhs.errors import RunError
from vhs.folders import locked
from vhs.tinyworld import recipe
from vhs.tinyworld.worlds import SANA, WORLDS, World

PARTS = 8
"""Of the training candidates: a half of them is what the ablations take (configs/tiny_ablations)."""


@dataclass(frozen=True)
class Stage:
    """A command of the recipe, `python -m vhs.tinyworld.<module> <arguments>`, and the modules it reads from."""

    module: str
    arguments: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        return " ".join([self.module, *self.arguments])


def stages(world: World) -> list[Stage]:
    """In the order in which they are begun where several could be: what most of the others wait for first."""
    own, first = ("--world", world.name), world is SANA
    judges = ("shape_detector", "color_classifier", "clip_vision") if first else ()
    sets = [("--part", str(part), "--parts", str(PARTS)) for part in range(PARTS)]
    readers = (f"hidden_{world.block}", "latent", "clip")
    found = [Stage("autoencoder", own), Stage("text_encoder", own)]
    if first:
        found += [Stage("latent_probe", (), ("autoencoder",)), Stage("teacher", (), ("latent_probe", "text_encoder"))]
        found += [Stage(name) for name in ("language_model", "shape_detector", "color_classifier")]
        found.append(Stage("clip_vision", (), ("language_model",)))  # its tokenizer
    found.append(Stage("student", own, ("teacher",) if first else ("autoencoder", "text_encoder")))
    found += [Stage("candidates", (*own, *which), ("student", *judges)) for which in (*sets, ("--held-out",))]
    words = ("language_model",) if first else ()
    found += [Stage("verifier", (*own, "--reads", reader), ("candidates", *words)) for reader in readers]
    if first:
        found.append(Stage("check", (), ("verifier",)))
    return found


def run_all(
    todo: Sequence[Stage], jobs: int, run: Callable[[Stage], int], stop: Callable[[], None] = lambda: None
) -> int:
    """Runs each stage once those of `todo` that it needs are done, at most `jobs` at a time; `run` gives its exit code.

    Returns the first code that is not 0: nothing is begun after it, and what is under way comes to its end. `stop` ends
    what is under way where this is interrupted.
    """
    left, under_way, failed = list(todo), dict[Future[int], Stage](), 0
    with ThreadPoolExecutor(jobs) as pool:
        try:
            while under_way or (left and not failed):
                unfinished = {stage.module for stage in [*left, *under_way.values()]}
                ready = [stage for stage in left if not unfinished & set(stage.needs)]
                for stage in ready[: 0 if failed else jobs - len(under_way)]:
                    left.remove(stage)
                    under_way[pool.submit(run, stage)] = stage
                for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                    del under_way[future]
                    failed = failed or future.result()
        except BaseException:
            stop()
            raise
    return failed


class Processes:
    """The stages' processes, each with what it says about itself."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen] = set()

    def run(self, stage: Stage) -> int:
        """Runs one command to its end and says how long it took; returns its exit code."""
        print(f"{stage.line}: begun", flush=True)
        started = time.monotonic()
        process = subprocess.Popen([sys.executable, "-m", f"vhs.tinyworld.{stage.module}", *stage.arguments])
        self._running.add(process)
        code = process.wait()
        self._running.discard(process)
        how = f"failed with code {code}" if code else "done"
        print(f"{stage.line}: {how}, {(time.monotonic() - started) / 60:.1f} min", flush=True)
        return code

    def stop(self) -> None:
        """Ends those that are running; each goes on from its last saved state."""
        for process in list(self._running):
            process.terminate()


def build(world: World, start: str, end: str, jobs: int) -> None:
    """Runs the stages from `start` to before `end` (empty: all), `jobs` at a time. Raises RunError where one fails."""
    todo = stages(world)
    names = [stage.module for stage in todo]
    part = todo[names.index(start) if start else 0 : names.index(end) if end else len(todo)]
    processes = Processes()
    with locked(recipe.WORK / world.name, "build"):
        if code := run_all(part, jobs, processes.run, processes.stop):
            raise RunError(f"a stage failed with code {code}; what it said stands above; the same command goes on")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m vhs.tinyworld.build", description=__doc__.splitlines()[0])
    parser.add_argument("world", choices=list(WORLDS))
    parser.add_argument("--start", default="", help="first stage to run (default: the first of all)")
    parser.add_argument("--stop", default="", help="stage not to run any more (default: none)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="stages at a time (default: one a core)")
    args = parser.parse_args()
    names = [stage.module for stage in stages(WORLDS[args.world])]
    for name in (args.start, args.stop):
        if name and name not in names:
            parser.error(f"{name}: no such stage; there are {', '.join(dict.fromkeys(names))}")
    if args.jobs < 1:
        parser.error(f"--jobs {args.jobs}: at least one stage at a time")
    build(WORLDS[args.world], args.start, args.stop, args.jobs)


if __name__ == "__main__":
    recipe.command(main)
