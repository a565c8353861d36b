"""Each world's stages are commands that exist, and the two share no folder or seed."""

import importlib
import os
import subprocess
import sys
import threading
import time

import pytest
import torch

from vhs.folders import locked
from vhs.tinyworld import build, recipe
from vhs.tinyworld.worlds import PIXART, SANA, WORLDS


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_every_stage_is_a_command(world):
    for stage in build.stages(world):
        assert callable(importlib.import_module(f"vhs.tinyworld.{stage.module}").main)


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
@pytest.mark.parametrize("jobs", [1, 2, 16])
def test_a_stage_begins_when_what_it_reads_is_done(world, jobs):
    begun, done, most, lock = [], [], [0], threading.Lock()

    def run(stage):
        with lock:
            begun.append(stage)
            most[0] = max(most[0], len(begun) - len(done))
            todo = {other.module for other in build.stages(world) if other not in done}
            assert not todo & set(stage.needs)
        time.sleep(0.002)
        with lock:
            done.append(stage)
        return 0

    assert build.run_all(build.stages(world), jobs, run) == 0
    assert sorted(s.line for s in begun) == sorted(s.line for s in build.stages(world))
    assert most[0] <= jobs and (jobs == 1) == (most[0] == 1)


def test_nothing_begins_after_a_stage_that_failed():
    begun = []

    def run(stage):
        begun.append(stage.module)
        return 3 if stage.module == "latent_probe" else 0

    assert build.run_all(build.stages(SANA), 1, run) == 3
    assert begun == ["autoencoder", "text_encoder", "latent_probe"]


def test_the_worlds_share_no_folder_and_no_scene():
    assert PIXART.folder != SANA.folder and PIXART.statistics != SANA.statistics
    assert SANA.verifier("hidden_7").name == "verifier_hidden_7"
    assert PIXART.verifier("clip").name == "pixart_verifier_clip"
    scenes = [{scene.seed for scene in recipe.fresh_scenes(w.stage("autoencoder"), 0, 16)} for w in (SANA, PIXART)]
    assert not scenes[0] & scenes[1]


def test_an_unknown_stage_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["build", "pixart", "--start", "teacher"])
    with pytest.raises(SystemExit) as ended:
        build.main()
    assert ended.value.code == 2 and "teacher: no such stage; there are autoencoder" in capsys.readouterr().err


def test_an_interrupted_build_ends_what_is_under_way():
    ended = []

    def run(stage):
        if stage.module == "text_encoder":
            raise KeyboardInterrupt
        return 0

    with pytest.raises(KeyboardInterrupt):
        build.run_all(build.stages(SANA), 2, run, lambda: ended.append("stopped"))
    assert ended == ["stopped"]


@pytest.mark.parametrize("name", ["sana", "tiny_stage"])
def test_a_stage_or_a_world_that_is_at_work_is_one_line(tmp_path, monkeypatch, capsys, name):
    monkeypatch.setattr(recipe, "WORK", tmp_path)
    monkeypatch.setattr("sys.argv", ["build", "sana"])
    layer = torch.nn.Linear(1, 1)

    def train():
        recipe.train("tiny_stage", layer, lambda step: layer.weight.sum(), steps=1, peak=0.1)

    with locked(tmp_path / name), pytest.raises(SystemExit) as ended:
        recipe.command(build.main if name == "sana" else train)
    said = capsys.readouterr().err
    assert ended.value.code == 2 and f"error: {tmp_path / name}: another " in said and "is being written there" in said


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_terminated_build_takes_its_stages_with_it(tmp_path):
    """What it had saved stays, and nothing of it lives on."""
    words = [sys.executable, "-m", "vhs.tinyworld.build", "sana", "--jobs", "1"]
    environment = os.environ | {"VHS_TINYWORLD_WORK": str(tmp_path), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "autoencoder --world sana: begun\n"
    wait_for(lambda: (tmp_path / ".autoencoder.lock").exists())
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143 and said.splitlines()[-1] == "terminated; what was saved is kept"
    with locked(tmp_path / "autoencoder"):
        pass


def wait_for(there, seconds=60):
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end
        time.sleep(0.05)
