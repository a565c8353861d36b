"""Every example of docs/verifiers.md runs: registry files, commands and Python, in a folder of a user's own."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
from PIL import Image

from vhs.commands import main
from vhs.config.run import RunConfig
from vhs.paths import PROJECT
from vhs.verifiers.score_file import read_score_file
from vhs.verifiers.spec import resolve_verifier

PAGE = (PROJECT / "docs" / "verifiers.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
FILES = {code.split("\n", 1)[0].removeprefix("# "): code for kind, code in BLOCKS if code.startswith("# ")}
COMMANDS = [line for kind, code in BLOCKS if not kind for line in code.splitlines() if line.startswith("python ")]
PROMPTS = [
    {"tag": "single_object", "include": [{"class": "circle", "count": 1}], "prompt": "a photo of a circle"},
    {"tag": "colors", "include": [{"class": "star", "count": 1, "color": "red"}], "prompt": "a photo of a red star"},
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of the page, and pictures in every layout that it names."""
    monkeypatch.chdir(tmp_path)
    for name, code in FILES.items():
        (tmp_path / name).write_text(code)
    (tmp_path / "prompts.json").write_text(json.dumps(PROMPTS))
    (tmp_path / "pictures").mkdir()
    rows = ["file,prompt"]
    for number, color in enumerate(("red", "green", "blue", "white")):
        Image.new("RGB", (64, 64), color).save(tmp_path / "pictures" / f"{number}.png")
        rows.append(f"pictures/{number}.png,a photo of a {color} circle")
        samples = tmp_path / "layout" / f"{number % 2:05d}" / "samples"
        samples.mkdir(parents=True, exist_ok=True)
        (samples.parent / "metadata.jsonl").write_text(json.dumps(PROMPTS[number % 2]))
        Image.new("RGB", (64, 64), color).save(samples / f"{number:04d}.png")
    (tmp_path / "table.csv").write_text("\n".join(rows))
    yield tmp_path
    for name in FILES:
        sys.modules.pop(name.removesuffix(".py"), None)


def go(command: str) -> int:
    """A command of the page, on two prompts."""
    _, script, *words = shlex.split(command)
    name = Path(script).stem
    return main([name, *words, *(["annotation=prompts.json"] if name == "run" else [])])


def test_the_page_has_the_examples_that_it_promises() -> None:
    assert set(FILES) == {"mine.py", "pairs.py", "rewards.py", "filed.py"}
    assert sum(bool(line.strip()) for line in FILES["mine.py"].splitlines()) <= 10 and len(COMMANDS) == 14


@pytest.mark.parametrize("file", FILES)
def test_every_registry_of_the_page_resolves(file: str, folder: Path) -> None:
    (folder / "outputs/tiny/scores").mkdir(parents=True)
    (folder / "outputs/tiny/scores/tiny_clip_score.jsonl").write_text('{"prompt_id": 0, "candidate": 0, "score": 1}\n')
    for name in runpy.run_path(file)["LATENT_VERIFIER"]:
        config = RunConfig(ckpt="x", registry=file, latent_verifier_name=name, selection={"tournament": 1})
        assert resolve_verifier(config, offline=True).reads in ("image", "nothing")


def test_rank_s_examples_run(folder: Path, capsys: pytest.CaptureFixture) -> None:
    for command in COMMANDS:
        if "rank.py" in command:
            assert go(command) == 0, capsys.readouterr().err
    assert len(list((folder / "outputs/rank/pictures/best_2_of_4").iterdir())) == 2
    assert (folder / "outputs/rank/layout/best_2_of_2/00001/metadata.jsonl").is_file()
    assert (folder / "outputs/rank/table/ranking.csv").is_file()
    example = next(code for kind, code in BLOCKS if kind == "python" and "vhs.rank" in code)
    exec(example)
    assert capsys.readouterr().out.splitlines()[-1].startswith("2 ")


@pytest.mark.slow
def test_runs_scores_and_comparisons_of_the_page_run(folder: Path, capsys: pytest.CaptureFixture) -> None:
    for command in COMMANDS:
        if "rank.py" not in command:
            assert go(command) == 0, f"{command}: {capsys.readouterr().err}"
    assert "AUC within a prompt" in capsys.readouterr().out
    scores = [row.score for row in read_score_file(folder / "outputs/tiny/scores/tiny_clip_score.jsonl")]
    filed = sorted((folder / "outputs/tiny_filed").rglob("*_metadata.json"))
    assert [json.loads(file.read_text())["score"] for file in filed] == pytest.approx(scores)
    cascade = [json.loads(file.read_text()) for file in sorted((folder / "outputs/cascade").rglob("*_metadata.json"))]
    assert sum(row["rerank_score"] is not None for row in cascade) == 4 * len(PROMPTS)
