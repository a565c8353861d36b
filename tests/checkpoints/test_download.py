"""Fetching what a run needs, from a Hub on this machine that answers as the real one."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from vhs.checkpoints.download import fetch_all, needed, readable
from vhs.checkpoints.fetch import Asset, HubFile, fetch, list_files, verify
from vhs.config.run import RunConfig, load_config
from vhs.errors import CheckpointError
from vhs.resolve import resolve

ROOT = Path(__file__).parents[2]
GOLDEN_D = ROOT / "tests" / "goldens" / "D"
COMMIT = "c" * 40


class Hub(BaseHTTPRequestHandler):
    """Serves folders as repositories: the list of files with sizes and digests, and the files, in parts where asked."""

    folders: dict[str, Path] = {}
    asked: list[tuple[str, str, str | None]] = []
    claims: dict[str, str] = {}

    def do_GET(self) -> None:
        name = re.sub(r"^/api/(models|datasets)/|^/(datasets/)?", "", self.path).split("?")[0]
        repository, _, file = re.sub("/(revision|tree)/.*", "", name).partition("/resolve/")
        file = file.partition("/")[2]
        folder = self.folders.get(repository)
        if folder is None:
            self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        elif self.path.startswith("/api/"):
            listing = self._listing(repository, folder)
            if "/tree/" in name:
                listing = [
                    {"type": "file", "oid": "0" * 40, "path": one["rfilename"], "size": one["size"]}
                    for one in listing["siblings"]
                ]
            self._answer(200, json.dumps(listing).encode(), {"Content-Type": "application/json"})
        else:
            self._file(folder / file, name)

    do_HEAD = do_GET

    def _listing(self, repository: str, folder: Path) -> dict[str, Any]:
        files = []
        for file in sorted(file for file in folder.rglob("*") if file.is_file()):
            name, size = str(file.relative_to(folder)), file.stat().st_size
            sha256 = self.claims.get(name) or hashlib.sha256(file.read_bytes()).hexdigest()
            files.append({"rfilename": name, "size": size, "lfs": {"sha256": sha256, "size": size, "pointerSize": 130}})
        return {"id": repository, "sha": COMMIT, "siblings": files, "tags": [], "private": False}

    def _file(self, file: Path, name: str) -> None:
        data, span = file.read_bytes(), self.headers.get("Range")
        self.asked.append((self.command, name, span))
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha256(data).hexdigest()}"'}
        if span:
            start = int(re.search(r"\d+", span)[0])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self._answer(206, data[start:], headers)
        else:
            self._answer(200, data, headers)

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[Hub]]:
    release = tmp_path / "release"
    release.mkdir()
    for name in ("block_7_mean_bf16.pt", "block_7_variance_bf16.pt"):
        shutil.copy(GOLDEN_D / name, release)
    Hub.folders = {
        "owner/sana": GOLDEN_D / "sana-sprint-tiny",
        "owner/verifier": GOLDEN_D / "vhs-tiny-hidden",
        "aimagelab/vhs-checkpoints": release,
    }
    Hub.asked, Hub.claims = [], {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    connect(monkeypatch, tmp_path / "cache", f"http://127.0.0.1:{server.server_port}")
    yield Hub
    server.shutdown()
    server.server_close()


def connect(monkeypatch: pytest.MonkeyPatch, cache: Path, address: str, offline: bool = False) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))


@pytest.fixture
def config(run_keys, tmp_path: Path) -> RunConfig:
    """A run whose every part is on the Hub."""
    places = {
        f"normalization_{kind}_path": str(tmp_path / "ckpts" / f"block_7_{kind}_bf16.pt")
        for kind in ("mean", "variance")
    }
    return RunConfig(
        **{**run_keys, **places, "ckpt": "owner/sana", "latent_verifier_path": "owner/verifier", "num_samples": 2}
    )


def test_everything_is_fetched_verified_and_then_enough_for_a_run_without_a_network(
    hub, config, monkeypatch, tmp_path
) -> None:
    said: list[str] = []
    total = fetch_all(resolve(config, fetch="configs").downloads, said.append)
    sizes = [sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) for folder in hub.folders.values()]
    assert 0.9 * sum(sizes) < total <= sum(sizes)
    assert said[0].startswith("ckpt: owner/sana: ") and re.fullmatch(
        r"in all 1\.\d MB, .* of it still to be fetched", said[4]
    )
    assert [line for line in said if line.endswith("here and verified")] == said[5:] and len(said) == 9
    assert (tmp_path / "ckpts" / "block_7_mean_bf16.pt").read_bytes() == (
        GOLDEN_D / "block_7_mean_bf16.pt"
    ).read_bytes()
    fetched = len([1 for method, _, _ in hub.asked if method == "GET"])
    said.clear()
    fetch_all(resolve(config, fetch="configs").downloads, said.append)
    assert any("0 B of it still to be fetched" in line for line in said)
    assert len([1 for method, _, _ in hub.asked if method == "GET"]) == fetched, "nothing is fetched twice"
    from vhs.runs import runner

    connect(monkeypatch, tmp_path / "cache", "http://127.0.0.1:9", offline=True)
    assert "nothing was judged" in runner.run(config, say=said.append, bar=False)
    manifest = json.loads((Path(config.output_path) / "small" / "run.json").read_text())
    assert manifest["checkpoints"]["ckpt"] == {"path": "owner/sana", "revision": COMMIT}


def test_an_interrupted_download_goes_on_where_it_stopped(hub, tmp_path: Path) -> None:
    asset = Asset("latent_verifier_path", "owner/verifier", ("*.safetensors",))
    files = list_files(asset)
    whole = (GOLDEN_D / "vhs-tiny-hidden" / "model.safetensors").read_bytes()
    blobs = tmp_path / "cache" / "models--owner--verifier" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{hashlib.sha256(whole).hexdigest()}.part").write_bytes(whole[:1000])
    fetch(asset, files, lambda line: None)
    assert ("GET", "owner/verifier/resolve/main/model.safetensors", "bytes=1000-") in hub.asked


def test_a_damaged_file_is_removed_and_named(hub, tmp_path: Path) -> None:
    hub.claims = {"model.safetensors": "0" * 64}
    asset = Asset("latent_verifier_path", "owner/verifier", ("*.safetensors",))
    with pytest.raises(
        CheckpointError, match="model.safetensors: damaged on the way .its SHA-256 is not the Hub's.; it was removed"
    ):
        fetch(asset, list_files(asset))
    assert not list((tmp_path / "cache").rglob("model.safetensors"))


def test_the_detector_s_name_states_its_digest(tmp_path: Path) -> None:
    data = b"weights"
    digest = hashlib.sha256(data).hexdigest()[:8]
    good, bad = tmp_path / f"net-{digest}.pth", tmp_path / "net-00000000.pth"
    for path in (good, bad):
        path.write_bytes(data)
    verify(good, HubFile(good.name, len(data), None))
    with pytest.raises(CheckpointError, match="does not begin with 00000000, which its name states"):
        verify(bad, HubFile(bad.name, len(data), None))
    assert good.exists() and not bad.exists()
    with pytest.raises(CheckpointError, match="7 bytes instead of 8"):
        verify(good, HubFile(good.name, 8, None))


def test_what_is_not_on_the_hub_or_cannot_be_reached(hub, monkeypatch, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="ckpt: owner/none: no such repository on the Hub"):
        list_files(Asset("ckpt", "owner/none", ("*",)))
    with pytest.raises(CheckpointError, match=r"ckpt: owner/sana has no \*.gguf"):
        list_files(Asset("ckpt", "owner/sana", ("*.gguf",)))
    connect(monkeypatch, tmp_path / "empty", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match="ckpt: owner/sana: the Hub cannot be reached") as raised:
        list_files(Asset("ckpt", "owner/sana", ("*",)))
    assert "\n" not in str(raised.value)


def test_what_the_published_runs_need_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vhs.verifiers.load.download", lambda *arguments: GOLDEN_D.parent / "B" / "vhs-tiny-clip")
    clip = next(file for file in (ROOT / "configs").glob("config_clip*"))
    assets = {asset.key: asset for asset in needed(resolve(load_config(clip), fetch="configs").downloads)}
    assert {key: asset.repository for key, asset in assets.items()} == {
        "ckpt": "Efficient-Large-Model/Sana_Sprint_1.6B_1024px_diffusers",
        "latent_verifier_path": "aimagelab/vhs-mllm-clip-verifier",
        "vision_tower": "openai/clip-vit-large-patch14-336",
        "segmentation_ckpt_path": "aimagelab/vhs-checkpoints",
        "color_classifier": "timm/vit_large_patch14_clip_224.openai",
    }
    assert assets["segmentation_ckpt_path"].patterns == (
        "mask2former_swin-s-p4-w7-224_8xb2-lsj-50e_coco_20220504_001756-c9d0c4f2.pth",
    )


def test_the_tiny_run_needs_nothing_from_elsewhere(run_keys, judge_keys) -> None:
    assert needed(resolve(RunConfig(**{**run_keys, **judge_keys}), fetch="configs").downloads) == []


def test_sizes_are_readable() -> None:
    assert [readable(size) for size in (0, 999, 1500, 2_500_000, 16_000_000_000)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "2.5 MB",
        "16.0 GB",
    ]
