"""Each world's stages are commands that exist, and the two share no folder or seed."""

import importlib

import pytest

from vhs.tinyworld import build, recipe
from vhs.tinyworld.worlds import PIXART, SANA, WORLDS


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_every_stage_is_a_command(world):
    for name, *_ in build.stages(world):
        assert callable(importlib.import_module(f"vhs.tinyworld.{name}").main)


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
