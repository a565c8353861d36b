"""What a checkpoint is by content, wherever its files lie."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from vhs.checkpoints import hashes
from vhs.checkpoints.hashes import content_hash, sampled_hash
from vhs.config.run import RunConfig
from vhs.resolve import resolve


def test_files_behind_a_link_to_a_folder_count(tmp_path: Path) -> None:
    model, elsewhere = tmp_path / "model", tmp_path / "elsewhere"
    (model / "vae").mkdir(parents=True)
    (model / "vae" / "weights").write_text("a")
    whole = content_hash(model)
    (model / "vae").rename(elsewhere)
    (model / "vae").symlink_to(elsewhere)
    (model / "loop").symlink_to(model)
    assert content_hash(model) == whole
    (elsewhere / "weights").write_text("b")
    assert content_hash(model) != whole


def test_large_files_of_data_are_read_at_some_places(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(hashes, "SAMPLED_FROM", 100)
    monkeypatch.setattr(hashes, "SAMPLE", 4)
    file, data = tmp_path / "shard", bytearray(1000)
    file.write_bytes(data)
    before = sampled_hash(file)
    assert before == sampled_hash(file)
    data[-1] = 1
    file.write_bytes(data)
    assert sampled_hash(file) != before
    file.write_bytes(bytes(1001))
    assert sampled_hash(file) != before


def test_pictures_that_a_run_reads_are_known_by_content(run_keys, tmp_path: Path) -> None:
    for prompt in range(3):
        samples = tmp_path / "pictures" / f"{prompt:05d}" / "samples"
        samples.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(samples / "0000.png")
    keys = run_keys | {"imgs_path": str(tmp_path / "pictures"), "latent_verifier": False, "generation_mode": "dev"}
    config = RunConfig(**keys | {"num_samples": 1, "judge": "none", "latent_verifier_path": None})
    before = resolve(config).hashes["imgs_path"]
    Image.new("RGB", (8, 8), "red").save(samples / "0000.png")
    assert resolve(config).hashes["imgs_path"] != before
