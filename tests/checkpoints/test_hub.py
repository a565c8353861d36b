"""Where checkpoints are found, and what a user reads where they are not: against a Hub that answers as the real one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from vhs.checkpoints.hub import cached_folder, download, is_hub_id
from vhs.checkpoints.source import find_file, find_model
from vhs.errors import CheckpointError

ANSWERS = {"gated": (403, "GatedRepo"), "absent": (401, "RepoNotFound"), "broken": (500, "")}


class _Hub(BaseHTTPRequestHandler):
    """Refuses every repository in the way its name says."""

    def do_GET(self) -> None:
        kind = next((name for name in ANSWERS if name in self.path), "absent")
        status, code = ANSWERS[kind]
        self.send_response(status)
        self.send_header("Content-Length", "0")
        if code:
            self.send_header("X-Error-Code", code)
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    server = HTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    connect(monkeypatch, tmp_path, f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    server.server_close()


def connect(monkeypatch: pytest.MonkeyPatch, cache: Path, address: str, offline: bool = False) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))


@pytest.mark.parametrize(
    "repository, message",
    [
        (
            "someone/gated-model",
            "ckpt: someone/gated-model is gated: accept its terms at https://huggingface.co/someone/",
        ),
        (
            "someone/absent-model",
            "ckpt: someone/absent-model: no such repository on the Hugging Face Hub; check the spelling",
        ),
    ],
)
def test_what_the_hub_refuses(hub: None, repository: str, message: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        download(repository, "ckpt", ("*.json",))
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)
    assert "HF_TOKEN" in str(caught.value)


def test_a_hub_that_fails(hub: None) -> None:
    with pytest.raises(CheckpointError, match="ckpt: someone/broken-model: ") as caught:
        download("someone/broken-model", "ckpt", ("*.json",))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("offline", [True, False])
def test_no_network_and_no_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, offline: bool) -> None:
    connect(monkeypatch, tmp_path, "http://127.0.0.1:9", offline)
    with pytest.raises(CheckpointError, match="inference_scripts/download.py --config") as caught:
        find_model("ckpt", "someone/model", ("*.json",)).require()
    assert str(caught.value).startswith("ckpt: someone/model: not in the Hub cache, and the Hub cannot be reached")


def test_a_cached_snapshot_needs_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    connect(monkeypatch, tmp_path, "http://127.0.0.1:9")
    assert cached_folder("someone/model", ("*.json",)) is None
    snapshot = tmp_path / "models--someone--model" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    refs = tmp_path / "models--someone--model" / "refs"
    refs.mkdir()
    (refs / "main").write_text("0" * 40)
    assert cached_folder("someone/model", ("*.json",)) == snapshot
    found = find_model("ckpt", "someone/model", ("*.json",))
    assert found.path == snapshot == found.require() and found.hash() == {"path": "someone/model", "revision": "0" * 40}


def test_folders_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "someone" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert find_model("ckpt", "someone/model", ()).require().samefile(tmp_path / "someone" / "model")
    assert not is_hub_id("someone/other")
    assert is_hub_id("owner/name") and not is_hub_id("a/b/c") and not is_hub_id("./name") and not is_hub_id("name")
    with pytest.raises(CheckpointError, match="ckpt: someone/other: no such folder; give a folder or a Hub id"):
        find_model("ckpt", "someone/other", ())


def test_one_rule_finds_every_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~`, the working directory, the project's folder, for folders and files alike."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mean.pt").write_bytes(b"x")
    for name in ("~/mine", "mine"):
        assert find_model("ckpt", name, ()).require().samefile(tmp_path / "mine")
        assert find_file("normalization_mean_path", f"{name}/mean.pt").require().is_file()
    assert find_model("ckpt", "ckpts/tiny/sana_sprint", ()).require().is_dir()
    assert find_file("object_names", "data/object_names.txt").require().is_file()
    absent = find_file("normalization_mean_path", "ckpts/none.pt")
    with pytest.raises(CheckpointError, match="normalization_mean_path: ckpts/none.pt is missing; to fetch what a run"):
        absent.require()
