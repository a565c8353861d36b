"""Commands where the machine is against them: a full disk, one that cannot be written, limits, another folder."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from vhs.commands import main
from vhs.commands.ending import exit_code
from vhs.training.trainer import train

VERIFIER = Path(__file__).parents[1] / "goldens" / "A" / "vhs-tiny-hidden"


class Disk:
    """A file system of its own, in memory."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def mount(self, options: str, remount: bool = False) -> None:
        place = ["tmpfs", str(self.place)]
        again = "remount," if remount else ""
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", again + options, *place], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")

    def room(self, size: str) -> None:
        self.mount(f"size={size}", remount=True)

    def read_only(self) -> None:
        self.mount("ro", remount=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk of 100 KiB."""
    found = Disk(tmp_path / "a small disk")
    found.place.mkdir()
    try:
        found.mount("size=100k")
    except FileNotFoundError:
        pytest.skip("no mount command")
    try:
        yield found
    finally:
        subprocess.run(["umount", str(found.place)], check=True)


def one_line(capsys: pytest.CaptureFixture) -> str:
    """The only line of error; progress bars are none."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, lines
    return lines[0]


def in_child(work: Callable[[], int]) -> tuple[int, str]:
    """(exit code, errors) of work in a process of its own, whose limits end with it."""
    reading, written = os.pipe()
    child = os.fork()
    if child == 0:
        sys.stderr = os.fdopen(written, "w", encoding="utf-8", buffering=1)
        try:
            os._exit(work())
        finally:
            os._exit(99)
    os.close(written)
    with os.fdopen(reading, encoding="utf-8", errors="replace") as stream:
        said = stream.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said


def test_a_run_goes_on_when_a_full_disk_has_room_again(disk, run_keys, config_file, capsys) -> None:
    file = config_file({**run_keys, "output_path": str(disk.place), "generation_mode": "dev"})
    disk.room("60k")
    (disk.place / "mine").write_bytes(bytes(30_000))
    assert main(["run", "--config", file]) == 2
    assert "cannot be written (No space left on device)" in one_line(capsys)
    disk.room("20m")
    assert main(["run", "--config", file, "cont=true"]) == 0
    assert (disk.place / "small" / "report.html").is_file() and len((disk.place / "mine").read_bytes()) == 30_000


def test_a_training_on_a_full_disk_is_one_line_and_goes_on(disk, config_in, capsys) -> None:
    settings = config_in(disk.place, max_steps=2, eval_fraction=0)
    assert exit_code(lambda: train(settings), "") == 2
    assert f"{settings.folder}" in (line := one_line(capsys)) and "cannot be written" in line
    disk.room("50m")
    assert train(settings.model_copy(update={"cont": True})).steps == 2


def test_collecting_measures_the_disk_before_it_begins(disk, run_keys, config_file, capsys) -> None:
    keys = {"run": config_file(run_keys), "annotation": run_keys["annotation"], "output": str(disk.place / "set"),
            "candidates": 20, "reserve_gib": 0}  # fmt: skip
    file = Path(keys["run"]).with_name("collect.yaml")
    file.write_text(yaml.safe_dump(keys))
    assert main(["collect", "--config", str(file)]) == 2
    assert "KiB free in" in one_line(capsys) and not list((disk.place).glob("set/*"))


@pytest.mark.parametrize("name", ["run", "collect", "normalize", "label", "train", "evaluate"])
def test_a_disk_that_cannot_be_written_is_one_line(
    name,
    disk,
    run_keys,
    judge_keys,
    config_file,
    config_in,
    collected,
    tmp_path,
    capsys,
) -> None:
    disk.room("20m")
    run = config_file({**run_keys, **judge_keys, "output_path": str(disk.place)})
    pictures = disk.place / "set"
    if name == "label":
        keys = {"run": run, "annotation": run_keys["annotation"], "output": str(pictures), "candidates": 1,
                "pictures": "png", "reserve_gib": 0}  # fmt: skip
        (tmp_path / "set.yaml").write_text(yaml.safe_dump(keys))
        assert main(["collect", "--config", str(tmp_path / "set.yaml")]) == 0
    disk.read_only()
    out = {"data": [str(collected)], "output": str(disk.place / "out")}
    keys = {
        "run": yaml.safe_load(Path(run).read_text()),
        "collect": {"run": run, "annotation": run_keys["annotation"], "output": out["output"], "reserve_gib": 0},
        "normalize": out,
        "label": {"task": "verdicts", "data": [str(pictures)], "judge": run},
        "train": config_in(disk.place, max_steps=1).model_dump(mode="json"),
        "evaluate": {**out, "best_of": [1, 4], "verifier": str(VERIFIER)},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(keys[name]))
    capsys.readouterr()
    assert main([name, "--config", str(tmp_path / "c.yaml")]) == 2
    assert "cannot be written (Read-only file system)" in one_line(capsys)


def test_a_limit_of_the_size_of_a_file_is_one_line(config_in, tmp_path: Path) -> None:
    """`ulimit -f`, what a quota answers: the log fits, the checkpoint does not."""

    def work() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        return exit_code(lambda: train(config_in(tmp_path, max_steps=1, eval_fraction=0)), "")

    code, said = in_child(work)
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert code == 2 and len(lines) == 1 and "cannot be written" in lines[0], said


def test_a_limit_of_memory_is_one_line() -> None:
    import torch

    def work() -> int:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**27, used + 2**27))
        return exit_code(lambda: torch.zeros(2**30), "")

    code, said = in_child(work)
    assert code == 2 and said.startswith("error: not enough memory (") and said.count("\n") == 1, said


def test_commands_find_the_projects_files_from_another_folder(tmp_path, monkeypatch, capsys) -> None:
    """Configurations, prompts and models are the project's, outputs the working folder's, blanks in names or not."""
    here = tmp_path / "another folder"
    here.mkdir()
    monkeypatch.chdir(here)
    small = ["annotation=data/tiny_prompts.json", "limit=2", "candidates=1", "output=the set", "reserve_gib=0"]
    assert main(["collect", "--config", "configs/train/collect_tiny.yaml", *small]) == 0
    data = ["data=[the set]", "output=the statistics"]
    assert main(["normalize", "--config", "configs/train/normalize_tiny.yaml", *data]) == 0
    evaluate = ["data=[the set]", "output=found.json", "verifier=ckpts/tiny/verifier_hidden_7", "best_of=[1]"]
    evaluate += [f"normalization_{part}_path=the statistics/block_7_{part}_bf16.pt" for part in ("mean", "variance")]
    rows = [json.dumps({"prompt_id": i, "candidate": 0, "correct": bool(i)}) for i in range(2)]
    (here / "the set" / "labels.jsonl").write_text("\n".join(rows))
    assert main(["evaluate", "--config", "configs/train/evaluate_tiny.yaml", *evaluate]) == 0, capsys.readouterr().err
    assert sorted(path.name for path in here.iterdir() if not path.name.startswith(".")) == [
        "found.json",
        "found.json.made.json",
        "the set",
        "the statistics",
    ]
