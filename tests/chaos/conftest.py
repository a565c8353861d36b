"""Commands in children of the test's own process."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
import torch

from tests.chaos.children import OFFLINE
from tests.chaos.scenes import World

ACCENT = "é" if sys.getfilesystemencoding() == "utf-8" else "e"
"""What names of files have, where the locale has it."""


@pytest.fixture(scope="module")
def forking() -> Iterator[None]:
    """One thread, so that children can be forked, and no Hub, as `prepare` has it; and then as it was."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in OFFLINE.items():
            patch.setenv(name, value)
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def world(forking: None, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Whole files of every command, in a folder with blanks and an accent in its name."""
    return World(tmp_path_factory.mktemp("another place") / f"whol{ACCENT} files")
