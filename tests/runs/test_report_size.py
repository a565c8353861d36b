"""A report of GenEval's size: 553 prompts, 32 candidates, pictures that compress badly."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runs.browser import chromium, opened
from tests.runs.report_runs import make_run
from vhs.runs.report.page import write_report

FILTER = """flag => {
  const start = performance.now(), control = document.getElementById('show');
  control.value = flag;
  control.dispatchEvent(new Event('input'));
  document.body.offsetHeight;
  return performance.now() - start;
}"""


@pytest.mark.slow
def test_553_prompts_of_32_candidates_stay_usable(tmp_path: Path) -> None:
    file = write_report(make_run(tmp_path, "large", 553, 32, skill=0.5, side=128, noise=True))
    megabytes = file.stat().st_size / 1e6
    with chromium() as browser:
        page = opened(browser, file)
        painted = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        read = page.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
        filtered = max(page.evaluate(FILTER, flag) for flag in ("missed", "some", "pick", "right", "wrong", ""))
        page.locator("#prompt-500").scroll_into_view_if_needed()
        page.wait_for_function(
            "() => [...document.querySelectorAll('#prompt-500 img')].filter(one => one.naturalWidth).length == 32"
        )
        assert page.problems == []
    print(f"\n{megabytes:.1f} MB, first paint {painted:.0f} ms, read {read:.0f} ms, slowest filter {filtered:.0f} ms")
    assert megabytes < 60 and painted < 2000 and filtered < 500
