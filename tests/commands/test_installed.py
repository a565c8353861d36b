"""What `pip install .` would put into site-packages, and commands from another folder with nothing but that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("configs", "data", "ckpts/tiny")
HOSTILE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "OMP_NUM_THREADS": "1"}
"""A locale of ASCII, without Python's own remedies."""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a wheel is packed from, built by the backend's own command without a network."""
    folder = tmp_path_factory.mktemp("site packages")
    build = ["egg_info", "--egg-base", str(folder), "build_py", "--build-lib", str(folder)]
    done = subprocess.run([sys.executable, "setup.py", "-q", *build], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def vhs(installed: Path, cwd: Path, *words: str, **environment: str) -> subprocess.CompletedProcess:
    keep = {key: value for key, value in os.environ.items() if key != "HOME" and not key.startswith("VHS")}
    return subprocess.run(
        [sys.executable, "-m", "vhs", *words],
        cwd=cwd,
        env={**keep, "PYTHONPATH": str(installed), **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


def files(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file() and file.suffix != ".pyc"}


def test_the_package_holds_its_modules_and_what_the_defaults_need(installed) -> None:
    assert files(installed / "vhs") - files(installed / "vhs" / "_project") >= files(ROOT / "vhs")
    for folder in FOLDERS:
        assert files(installed / "vhs" / "_project" / folder) == files(ROOT / folder) != set()
    assert (
        not files(installed) & {"setup.py", "tests/conftest.py"}
        and not (installed / "vhs" / "_project" / "tests").exists()
    )


def test_the_installed_command_finds_its_own_files_in_an_empty_folder(installed, tmp_path) -> None:
    code = (
        "from vhs.config.run import load_config\nfrom vhs.paths import find\n"
        "config = load_config('configs/tiny.yaml')\nprint(find(config.ckpt), find(config.annotation), sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(installed)}, capture_output=True
    )
    project = installed / "vhs" / "_project"
    assert done.stdout.decode().split("\n")[:2] == [
        f"{project}/ckpts/tiny/sana_sprint",
        f"{project}/data/tiny_prompts.json",
    ]
    listed = vhs(installed, tmp_path, "run", "--list-verifiers").stdout
    assert "tiny_hidden_7" in listed and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_installed_command_runs_the_tiny_world_in_hostile_surroundings(installed, tmp_path) -> None:
    """No home, an ASCII locale, blanks and accents in every name; outputs go to the working directory."""
    here = tmp_path / "mit Leerzeichen"
    here.mkdir()
    prompts = [{"tag": "single_object", "include": [{"class": "star", "count": 1}], "prompt": "a photo of a stär"}]
    (here / "my prompts.json").write_text(json.dumps(prompts, ensure_ascii=False), encoding="utf-8")
    words = ["run", "annotation=my prompts.json", "num_samples=2", "name=mine", "output_path=the outputs"]
    done = vhs(installed, here, *words, **HOSTILE)
    assert done.returncode == 0, done.stderr
    folder = here / "the outputs" / "mine"
    (file,) = folder.rglob("best_annotations_proc_*.json")
    assert "a photo of a stär" in file.read_text(encoding="utf-8")
    assert json.loads((folder / "run.json").read_text(encoding="utf-8"))["git"]["commit"] is None
    assert not any(file.suffix in (".png", ".json") for file in (installed / "vhs").glob("*"))
    judged = vhs(installed, here, "geneval", "--images", "the outputs/mine", **HOSTILE)
    assert judged.returncode == 0 and (folder / "results.jsonl").is_file(), judged.stderr
    compared = vhs(installed, here, "compare", "the outputs/mine", "the outputs/mine", **HOSTILE)
    assert "1 prompts in common, 1 judged in every run" in compared.stdout
