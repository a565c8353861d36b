"""Commands in other surroundings: paths with blanks, no home, an output that nobody reads, Ctrl-C twice, no UTF-8."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.children import Child, Ended, end, start
from tests.chaos.conftest import ACCENT
from tests.chaos.scenes import World

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
COMMANDS = ("run", "collect", "normalize", "verdicts", "captions", "metadata", "align", "evaluate", "pipeline",
            "geneval", "geneval folder", "rank", "score", "score run", "compare", "report", "bench stop", "ablations",
            "demo", "download", "clip score", "tables")  # fmt: skip
LIMIT = 120.0


def no_reader() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    os.dup2(writing, 1)


def no_home() -> None:
    del os.environ["HOME"]


def started(world: World, name: str, here: Path, change: Callable[[], None] = lambda: None) -> Child:
    """A command at work on whole files of its own in `here`."""
    scene = world.case(name, here)

    def begin() -> None:
        scene.before()
        change()

    return start(scene.words, here, begin)


def quiet(ended: Ended, *codes: int) -> bool:
    return ended.code in codes and "Traceback" not in ended.said


@pytest.mark.parametrize("name", COMMANDS)
def test_blanks_in_paths_and_another_working_folder(world: World, tmp_path: Path, name: str) -> None:
    ended = end(started(world, name, tmp_path / f"her{ACCENT}" / "a b"), LIMIT)
    assert quiet(ended, 0), ended


@pytest.mark.parametrize("name", COMMANDS)
def test_an_output_that_nobody_reads_ends_quietly(world: World, tmp_path: Path, name: str) -> None:
    ended = end(started(world, name, tmp_path / "here", no_reader), LIMIT)
    assert quiet(ended, 0, 141), ended


@pytest.mark.parametrize("name", COMMANDS)
def test_no_home_is_no_mistake(world: World, tmp_path: Path, name: str) -> None:
    ended = end(started(world, name, tmp_path / "here", no_home), LIMIT)
    assert quiet(ended, 0), ended


@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c_twice_ends_in_one_line(world: World, tmp_path: Path, name: str) -> None:
    child = started(
        world,
        name,
        tmp_path / "here",
        lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's background jobs ignore it
    )
    time.sleep(0.3)
    os.kill(child.process, signal.SIGINT)
    time.sleep(0.05)
    os.kill(child.process, signal.SIGINT)
    ended = end(child, LIMIT)
    assert quiet(ended, 0, 130), ended
    assert ended.code == 0 or ended.said.splitlines()[-1].startswith("interrupted; "), ended


def test_a_locale_without_utf_8_changes_nothing() -> None:
    """The first test of this file, where the locale's encoding is ASCII."""
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "blanks", str(Path(__file__).relative_to(ROOT))]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, capture_output=True)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
