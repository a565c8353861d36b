"""report.html in a real Chromium: what is seen, filtered, opened and read aloud."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.runs.browser import chromium, opened
from tests.runs.report_runs import HOSTILE, make_run
from vhs.files import read_json, write_json
from vhs.runs.report.page import write_report

FRAME = (242, 161, 0)
CANDIDATES = 4


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as one:
        yield one


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 30 prompts, moved after it was made, with boxes, one picture missing and one damaged."""
    folder = tmp_path_factory.mktemp("runs")
    made = make_run(folder, "made", 30, CANDIDATES, skill=0.7, texts=HOSTILE, side=32)
    box = {"label": "circle", "score": 0.9, "box": [4, 4, 16, 28], "color": "red"}
    write_json(made / "gen_eval_made" / "00003" / "objects.json", {"0": [box], "1": [], "2": [box], "3": []})
    (made / "gen_eval_made" / "00004" / "samples" / "img_00001.png").unlink()
    (made / "gen_eval_made" / "00005" / "samples" / "img_00002.png").write_bytes(b"no picture")
    moved = folder / "elsewhere"
    made.rename(moved)
    write_report(moved)
    return moved


@pytest.fixture
def page(browser: Any, root: Path) -> Iterator[Any]:
    one = opened(browser, root / "report.html")
    yield one
    assert one.problems == []
    one.context.close()


def rows_of(root: Path, prompt: int) -> list[dict[str, Any]]:
    samples = root / "gen_eval_made" / f"{prompt:05d}" / "samples"
    return [read_json(samples / f"{index:05d}_metadata.json") for index in range(CANDIDATES)]


def expected_prompts(root: Path, passes: Any) -> list[str]:
    found = []
    for prompt in range(30):
        rows = rows_of(root, prompt)
        pick = max(rows, key=lambda row: row["score"])
        if passes(rows, pick):
            found.append(str(prompt))
    return found


def shown(page: Any) -> list[str]:
    return page.eval_on_selector_all(".row:not([hidden])", "rows => rows.map(row => row.dataset.id)")


def pixels(page: Any, selector: str, margin: int = 6) -> np.ndarray:
    """A screenshot of an element and `margin` pixels around it, (H, W, 3)."""
    page.locator(selector).scroll_into_view_if_needed()
    box = page.locator(selector).bounding_box()
    clip = {"x": box["x"] - margin, "y": box["y"] - margin}
    clip |= {"width": box["width"] + 2 * margin, "height": box["height"] + 2 * margin}
    return np.asarray(Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB"), dtype=int)


def tiles(page: Any, prompt: int) -> Any:
    """The candidates of a prompt, built once its row is near the window."""
    page.locator(f"#prompt-{prompt}").scroll_into_view_if_needed()
    page.wait_for_selector(f"#prompt-{prompt} .tile")
    return page.locator(f"#prompt-{prompt} .tile button")


def near(image: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    return (np.abs(image - np.array(color)) <= 12).all(axis=-1)


def test_the_winner_alone_is_framed_and_pictures_are_those_of_their_candidates(page: Any, root: Path) -> None:
    order = sorted(range(CANDIDATES), key=lambda index: -rows_of(root, 3)[index]["score"])
    tiles(page, 3)
    for place, candidate in enumerate(order, start=1):
        image = pixels(page, f"#prompt-3 .tile:nth-child({place}) .picture")
        middle = image[image.shape[0] // 2, image.shape[1] // 2]
        assert np.abs(middle - np.array([20 * candidate, 40, 80])).max() <= 6
        framed = near(image, FRAME)
        ring = framed[:6].any() and framed[-6:].any() and framed[:, :6].any() and framed[:, -6:].any()
        assert bool(ring) == (place == 1) and not framed[8:-8, 8:-8].any()


def test_the_page_is_not_blank_in_light_and_dark(browser: Any, root: Path) -> None:
    for scheme, paper in (("light", (255, 255, 255)), ("dark", (20, 23, 27))):
        page = opened(browser, root / "report.html", color_scheme=scheme)
        image = np.asarray(Image.open(io.BytesIO(page.screenshot(full_page=False))).convert("RGB"), dtype=int)
        assert 0.5 < near(image, paper).mean() < 0.99
        chart = pixels(page, "figure svg >> nth=0", 0)
        assert near(chart, paper).mean() < 0.97 and len(np.unique(chart.reshape(-1, 3), axis=0)) > 20
        assert page.problems == []
        page.context.close()


@pytest.mark.parametrize(
    ("flag", "passes"),
    [
        ("pick", lambda rows, pick: pick["correct"] != pick["correct_verifier"]),
        ("some", lambda rows, pick: any(row["correct"] != row["correct_verifier"] for row in rows)),
        ("missed", lambda rows, pick: not pick["correct"] and any(row["correct"] for row in rows)),
        ("right", lambda rows, pick: pick["correct"]),
        ("wrong", lambda rows, pick: not pick["correct"]),
    ],
)
def test_filters_show_the_prompts_that_the_rows_say(page: Any, root: Path, flag: str, passes: Any) -> None:
    expected = expected_prompts(root, passes)
    assert 0 < len(expected) < 30
    page.select_option("#show", flag)
    assert shown(page) == expected and page.inner_text("#count") == f"{len(expected)} of 30 prompts"


def test_tag_text_and_show_work_together(page: Any) -> None:
    page.select_option("#tag", "counting")
    page.fill("#text", "NUMBER 2 counting")
    assert shown(page) == ["20", "26"]
    page.fill("#text", "nothing like this")
    assert shown(page) == [] and page.inner_text("#count") == "0 of 30 prompts"


def test_prompts_are_text_whatever_is_in_them(page: Any) -> None:
    for number, text in enumerate(HOSTILE):
        assert page.text_content(f"#prompt-{number} h3 bdi") == text
    assert page.title() == "made" and page.locator("#gallery img[src=x], #gallery script").count() == 0
    tiles(page, 0).first.click()
    assert page.text_content("#opened-title") == HOSTILE[0] and page.title() == "made"


def test_a_candidate_opens_by_keyboard_and_closes_where_one_was(page: Any, root: Path) -> None:
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    rows = rows_of(root, 1)
    order = sorted(range(CANDIDATES), key=lambda index: -rows[index]["score"])
    assert page.locator("#opened").is_visible()
    assert f"candidate\n{order[1]}\n" in page.inner_text("#opened-facts") + "\n"
    assert f"p(yes) {rows[order[1]]['p_yes']:.3f}" in page.inner_text("#opened-facts")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert page.text_content("#opened-title") == HOSTILE[2]
    page.keyboard.press("Escape")
    assert not page.locator("#opened").is_visible()
    assert page.evaluate("document.activeElement.closest('.row').dataset.id") == "2"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "text"


def test_full_size_shows_the_run_s_own_file_and_says_when_it_is_not_there(
    browser: Any, root: Path, tmp_path: Path
) -> None:
    alone = Path(shutil.copy(root / "report.html", tmp_path))
    for file, there in ((root / "report.html", True), (alone, False)):
        page = opened(browser, file)
        tiles(page, 3).first.click()
        assert page.get_attribute("#opened-picture img", "src").startswith("data:image/webp")
        assert page.problems == []
        page.click("#original")
        if there:
            page.wait_for_selector("#opened-picture img[src^=gen_eval_made]")
        else:
            page.wait_for_function("() => document.getElementById('opened-note').textContent.includes('not beside')")
            assert page.locator("#opened-picture img[src^=data]").count() == 1
        page.context.close()


def test_boxes_lie_on_the_picture_and_are_listed(page: Any, root: Path) -> None:
    page.check("#boxes")
    tiles(page, 3)
    place = 1 + sorted(range(CANDIDATES), key=lambda index: -rows_of(root, 3)[index]["score"]).index(2)
    image = pixels(page, f"#prompt-3 .tile:nth-child({place}) .picture", 0)
    scale = image.shape[0] / 32
    assert near(image[round(16 * scale), round(4 * scale) - 2 : round(4 * scale) + 3], (230, 25, 75)).any()
    assert near(image[round(16 * scale), round(16 * scale) - 2 : round(16 * scale) + 3], (230, 25, 75)).any()
    page.locator(f"#prompt-3 .tile:nth-child({place}) button").click()
    assert "red circle, 0.90 at 4, 4, 16, 28" in page.inner_text("#opened-facts")


def test_a_missing_or_damaged_picture_s_place_says_so(page: Any) -> None:
    for prompt in (4, 5):
        tiles(page, prompt)
        assert page.locator(f"#prompt-{prompt} .gone").all_text_contents() == ["picture missing"]
        assert page.locator(f"#prompt-{prompt} img").count() == CANDIDATES - 1


def test_a_screen_reader_is_told_everything(page: Any, root: Path) -> None:
    rows = rows_of(root, 3)
    order = sorted(range(CANDIDATES), key=lambda index: -rows[index]["score"])
    labels = tiles(page, 3).evaluate_all("all => all.map(one => one.ariaLabel)")
    for place, index in enumerate(order):
        verdict = "right" if rows[index]["correct"] else "wrong"
        assert labels[place].startswith(f"candidate {index}, score ") and f", {verdict}" in labels[place]
        assert labels[place].endswith(", the pick") == (place == 0)
    assert page.eval_on_selector_all("figure svg", "all => all.every(one => one.role === 'img' && one.ariaLabel)")
    assert page.eval_on_selector_all("select, input", "all => all.every(one => one.labels.length === 1)")
    assert page.locator("#count[aria-live=polite]").count() == 1
    assert page.eval_on_selector_all("[id]", "all => all.length === new Set(all.map(one => one.id)).size")
