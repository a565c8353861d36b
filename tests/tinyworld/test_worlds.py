"""Each world's stages are commands that exist, and the two share no folder or seed."""

import importlib
import threading
import time

import pytest

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


def test_a_second_build_of_a_world_waits_for_nothing(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(recipe, "WORK", tmp_path)
    monkeypatch.setattr("sys.argv", ["build", "sana"])
    with locked(tmp_path / "sana"), pytest.raises(SystemExit) as ended:
        build.main()
    assert ended.value.code == 2 and "another build is being written there" in capsys.readouterr().err
