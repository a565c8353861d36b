"""A run's folder: whole files, prompts that are done, and what counts as the same run."""

from __future__ import annotations

import json

import pytest

from vhs.config.run import RunConfig
from vhs.errors import RunError
from vhs.files import write_bytes, write_json
from vhs.records import Prompt
from vhs.runs.folder import RunFolder, changed_keys

PROMPT = Prompt(7, "a cat", {"tag": "single_object", "include": [{"class": "cat", "count": 1}], "prompt": "a cat"})


@pytest.fixture
def folder(run_keys) -> RunFolder:
    return RunFolder(RunConfig(**{**run_keys, "num_samples": 2, "fmt": "jpg"}))


def test_the_layout_is_the_release_s(folder: RunFolder) -> None:
    root = f"{folder.config.output_path}/small/gen_eval_small"
    assert str(folder.picture(7, 3)) == f"{root}/00007/samples/img_00003.jpg"
    assert str(folder.picture(7, 3, best=True)) == f"{root}/00007/samples/best_00003.jpg"
    assert str(folder.row(7, 3)) == f"{root}/00007/samples/00003_metadata.json"
    assert str(folder.annotations("all", 1)) == f"{root}/all_annotations_proc_vhs-tiny-hidden_id_proc_1.json"


def test_a_prompt_appears_whole(folder: RunFolder) -> None:
    assert not folder.done(7)
    folder.write_prompt(PROMPT, 1, {0: b"other", 1: b"picture"}, [{"score": 0.1}, {"score": 0.2}])
    assert folder.done(7) and folder.winner(7) == 1 and [row["score"] for row in folder.rows(7)] == [0.1, 0.2]
    assert folder.picture(7, 1).read_bytes() == folder.picture(7, 1, best=True).read_bytes() == b"picture"
    assert json.loads((folder.prompt(7) / "metadata.jsonl").read_text()) == PROMPT.metadata
    assert not list(folder.pictures.glob(".*"))


def test_a_prompt_without_metadata_keeps_its_text(folder: RunFolder) -> None:
    folder.write_prompt(Prompt(0, "snö"), 0, {0: b"x"}, [{}, {}])
    assert json.loads((folder.prompt(0) / "metadata.jsonl").read_text()) == {"prompt": "snö"}


def test_removing_a_run_leaves_what_a_run_does_not_write(folder: RunFolder) -> None:
    folder.write_prompt(PROMPT, 1, {1: b"x"}, [{}, {}])
    write_json(folder.root / "run.json", {})
    (folder.root / "notes.txt").write_text("mine")
    folder.remove()
    assert [file.name for file in folder.root.iterdir()] == ["notes.txt"]


def test_json_is_the_same_bytes_for_the_same_value_and_never_half_written(folder, monkeypatch) -> None:
    file = folder.root / "a.json"
    write_json(file, {"b": 1, "a": "é"})
    assert file.read_bytes() == '{\n "b": 1,\n "a": "é"\n}\n'.encode()
    monkeypatch.setattr("os.replace", lambda *paths: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(RunError, match="a.json: cannot be written .No space left on device."):
        write_bytes(file, b"half")
    assert file.read_bytes().startswith(b"{")


def test_a_run_is_another_one_when_a_key_that_changes_results_differs() -> None:
    old = {
        "config": {"seed": 1, "micro_batch": 8, "fmt": "png"},
        "prompts": {"sha256": "a"},
        "checkpoints": {"ckpt": {"path": "p", "sha256": "1"}},
        "seeds": {"run": 1},
    }
    assert changed_keys(old, {**old, "config": {**old["config"], "micro_batch": 2}}) == []
    assert changed_keys(old, {"config": {"seed": 2, "fmt": "jpg"}}) == ["fmt: png, now jpg", "seed: 1, now 2"]
    assert changed_keys(old, {"config": {"seed": 2, "fmt": "jpg"}}, ignore=["seed"]) == ["fmt: png, now jpg"]
    assert changed_keys(old, {**old, "checkpoints": {"ckpt": {"path": "p", "sha256": "2"}}}) == [
        "ckpt: p has other content than before"
    ]
    assert changed_keys(old, {**old, "prompts": {"sha256": "b"}})[0].endswith("has other content than before")


def test_a_changed_folder_is_named(folder: RunFolder) -> None:
    folder.write_prompt(PROMPT, 1, {1: b"x"}, [{}, {}])
    folder.row(7, 0).write_text("{")
    with pytest.raises(RunError, match="00000_metadata.json: is not valid JSON"):
        folder.rows(7)
    folder.picture(7, 1, best=True).unlink()
    with pytest.raises(RunError, match="no samples/best_"):
        folder.winner(7)
