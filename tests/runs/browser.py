"""A real headless Chromium for tests, or a reason to skip."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def chromium() -> Iterator[Any]:
    """A playwright browser. CHROMIUM names the program where it is not on the PATH."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (requirements-dev.txt)")
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if not program:
        pytest.skip("no Chromium on the PATH: apt-get install chromium, or CHROMIUM=/path/to/it")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


def opened(browser: Any, file: Path, **context: Any) -> Any:
    """The page of a file, with `page.problems`: everything it logged, raised or asked of a network."""
    page = browser.new_context(viewport={"width": 1280, "height": 900}, **context).new_page()
    page.problems = []
    page.on("console", lambda message: page.problems.append(message.text))
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on(
        "request", lambda one: one.url.startswith(("file:", "data:")) or page.problems.append(f"asked for {one.url}")
    )
    page.goto(file.as_uri())
    return page
