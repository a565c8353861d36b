"""The page to play with: what a session yields on the tiny world, and the page in a real Chromium where gradio is."""

from __future__ import annotations

import sys

import pytest

from tests.runs.browser import chromium
from vhs.commands import main
from vhs.config.run import load_config
from vhs.runs.demo import Session, answers, page


@pytest.fixture(scope="module")
def session() -> Session:
    return Session(load_config("configs/tiny.yaml"))


def test_the_winner_comes_before_its_rivals(session: Session) -> None:
    moments = session.moments("a photo of a red circle", "tiny_hidden_7", 3, 0)
    first = next(moments)
    assert list(first.result.images) == [first.result.best_index] and len(first.result.scores) == 3
    last = next(moments)
    assert first.result is last.result and len(last.result.images) == 3 and first.stages == last.stages
    assert first.stages["finish"]["items"] == 1 and first.stages["score"]["items"] == 3


def test_words_that_the_tiny_world_never_saw_are_named(session: Session) -> None:
    assert session.unknown_words("a photo of two green triangles left of an orange heart") == []
    assert session.unknown_words("A photo of a zebra, a red circle and a Zebra's dog") == ["zebra", "dog"]


def test_verifiers_whose_files_are_here_are_offered_and_work(session: Session) -> None:
    assert session.verifiers == [
        *("tiny_hidden_7", "tiny_ae", "tiny_clip", "tiny_pixart_clip", "tiny_clip_score", "random", "none")
    ]
    assert next(session.moments("a star", "none", 2, 0)).result.scores == []


def test_what_the_page_says_as_things_come_in(session: Session) -> None:
    answer = answers(session)
    assert [said[0] for said in answer("  ", "random", 2, 0)] == ["Type a prompt first."]
    said = list(answer("a photo of a zebra", "tiny_hidden_7", 2, None))
    assert said[0][0].startswith("**Unknown to this generator: zebra.**") and said[0][1] is None
    assert "rivals are being finished" in said[1][0] and said[1][1].size == (64, 64) and said[1][3] == []
    assert "being finished" not in said[2][0] and len(said[2][3]) == 2 and said[2][3][0][1].endswith(" · winner")
    assert [row[0] for row in said[1][2]][:3] == ["encode", "noise", "prefix"]
    assert "no verifier 'rndom'" in list(answer("a star", "rndom", 2, 0))[-1][0]


def test_without_gradio_one_line_says_what_to_install_before_a_model_loads(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.setattr("vhs.runs.demo.Session", lambda config: pytest.fail("models are loaded"))
    assert main(["demo", "--config", "configs/tiny.yaml"]) == 2
    said = capsys.readouterr().err
    assert "gradio is not installed; " in said and "see requirements-demo.txt" in said


def test_the_page_in_a_browser(session: Session) -> None:
    pytest.importorskip("gradio", reason="gradio is not installed (requirements-demo.txt, an environment of its own)")
    with chromium() as browser:
        _, address, _ = page(session).queue().launch(prevent_thread_lock=True, quiet=True)
        one = browser.new_page()
        problems: list[str] = []
        one.on("pageerror", lambda error: problems.append(str(error)))
        one.on("request", lambda asked: asked.url.startswith((address, "data:", "blob:")) or problems.append(asked.url))
        one.goto(address)
        one.get_by_label("Prompt").fill("a photo of a zebra and a red circle")
        one.get_by_role("button", name="Generate").click()
        one.wait_for_function("document.querySelectorAll('#candidates img').length >= 8", timeout=120_000)
        assert "Unknown to this generator: zebra." in one.inner_text("#status")
        one.wait_for_selector("#winner img")
        assert "prefix" in one.inner_text("#timings") and "winner" in one.inner_text("#candidates")
        assert problems == []
