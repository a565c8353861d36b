"""Pictures from anywhere: a folder and a prompt, a table, GenEval's layout, SANA-1.5's; nothing is ranked halfway."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vhs
from vhs.commands import main
from vhs.errors import ConfigError, ImageError, VHSError
from vhs.records import Prompt

MINE = """
import numpy as np
LATENT_VERIFIER = {
    "red": {"class": "MODULE:Red"},
    "pairs": {"class": "MODULE:Pairs"},
    "clip": {"kind": "clip_score", "latent_verifier_path": "ckpts/tiny/color_clip"},
    "file": {"kind": "scores", "scores": "scores.jsonl"},
}
class Red:
    reads = "image"
    def score(self, prompt, pictures):
        return [float(np.asarray(one)[..., 0].mean()) for one in pictures]
class Pairs:
    reads = "image"
    def compare(self, prompt, a, b):
        return np.asarray(a)[..., 0].mean() > np.asarray(b)[..., 0].mean()
"""
REDS = (10, 250, 90, 200, 30, 120, 60, 180)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder: `mine.py`, and `pictures/0.png` ... of the reds above."""
    module = f"mine_{tmp_path.name}"
    (tmp_path / f"{module}.py").write_text(MINE.replace("MODULE", module))
    (tmp_path / "pictures").mkdir()
    for number, red in enumerate(REDS):
        Image.new("RGB", (16, 12), (red, 0, 0)).save(tmp_path / "pictures" / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VHS_REGISTRY", str(tmp_path / f"{module}.py"))
    yield tmp_path
    sys.modules.pop(module, None)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    return main(["rank", *arguments])


def table(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text().splitlines()))


def test_a_folder_and_a_prompt_become_a_table_a_sheet_and_the_best(folder, monkeypatch, capsys) -> None:
    keys = ("--images", "pictures", "--prompt", "a red square", "--verifier", "red", "--out", "out")
    assert run(monkeypatch, *keys, "--top", "4", "--copy") == 0
    rows = table(folder / "out" / "ranking.csv")
    assert [Path(row["file"]).stem for row in rows] == ["1", "3", "7", "5", "2", "6", "4", "0"]
    assert [row["rank"] for row in rows] == [str(n) for n in range(1, 9)] and rows[0]["score"] == "250.0"
    best = folder / "out" / "best_4_of_8"
    assert sorted(file.name for file in best.iterdir()) == ["1_1.png", "2_3.png", "3_7.png", "4_5.png"]
    assert (best / "1_1.png").read_bytes() == (folder / "pictures" / "1.png").read_bytes()
    sheet = np.asarray(Image.open(folder / "out" / "contact_sheet.png"))
    assert (sheet == (250, 0, 0)).all(-1).any() and "+250.0000  pictures/1.png" in capsys.readouterr().out


def test_a_tournament_keeps_the_best_of_each_group_and_links_are_links(folder, monkeypatch) -> None:
    keys = ("--images", "pictures", "--prompt", "a red square", "--out", "out", "--top", "4", "--tournament", "--link")
    for verifier in ("red", "pairs"):
        assert run(monkeypatch, *keys, "--verifier", verifier) == 0
        rows = table(folder / "out" / "ranking.csv")
        assert {Path(row["file"]).stem for row in rows[:4]} == {"1", "3", "5", "7"}
        assert [row["picked"] for row in rows] == ["True"] * 4 + ["False"] * 4
    assert (folder / "out" / "best_4_of_8" / "1_1.png").is_symlink()


def test_a_pretrained_reward_ranks_by_name(folder, monkeypatch) -> None:
    assert run(monkeypatch, "--images", "pictures", "--prompt", "a photo of a red circle", "--verifier", "clip") == 0
    assert len(table(folder / "outputs" / "rank" / "pictures" / "ranking.csv")) == 8


def test_from_python_pictures_may_be_in_memory_or_on_disk(folder) -> None:
    files = [folder / "pictures" / f"{number}.png" for number in (0, 1, 2)]
    order = vhs.rank(files, "a red square", "red", top=2)
    assert [(one.index, one.rank, one.picked) for one in order] == [(1, 1, True), (2, 2, True), (0, 3, False)]
    opened = [Image.open(files[0]), files[1], Image.open(files[2])]

    class Green:
        reads = "image"

        def score(self, prompt, pictures):
            from vhs.records import Score

            return Score.plain([-float(np.asarray(one)[..., 0].mean()) for one in pictures])

    assert [one.index for one in vhs.rank(opened, Prompt(3, "a red square"), Green())] == [0, 2, 1]
    with pytest.raises(ConfigError, match="absent.py: the registry cannot be read"):
        vhs.rank(files, "a red square", "red", registry="absent.py")
    with pytest.raises(ImageError, match="no pictures to rank"):
        vhs.rank([], "a red square", "red")


@pytest.fixture
def layout(folder: Path) -> Path:
    """GenEval's: two prompts of four pictures."""
    for prompt in (0, 1):
        samples = folder / "made" / f"{prompt:05d}" / "samples"
        samples.mkdir(parents=True)
        record = {"tag": "colors", "include": [{"class": "square", "count": 1}], "prompt": f"square {prompt}"}
        (samples.parent / "metadata.jsonl").write_text(json.dumps(record) + "\n")
        for number in range(4):
            color = (REDS[4 * prompt + number], 0, 0)
            Image.new("RGB", (16, 12), color).save(samples / f"{number:04d}.png")
    return folder / "made"


def test_geneval_s_layout_goes_in_and_sana_s_comes_out_which_is_geneval_s(folder, layout, monkeypatch) -> None:
    assert run(monkeypatch, "--images", "made", "--verifier", "red", "--top", "2", "--copy", "--out", "out") == 0
    best = folder / "out" / "best_2_of_4"
    assert sorted(str(file.relative_to(best)) for file in best.rglob("*.png")) == [
        "00000/samples/0001.png",
        "00000/samples/0003.png",
        "00001/samples/0001.png",
        "00001/samples/0003.png",
    ]
    for prompt in ("00000", "00001"):
        assert (best / prompt / "metadata.jsonl").read_text() == (layout / prompt / "metadata.jsonl").read_text()
    assert run(monkeypatch, "--images", "out/best_2_of_4", "--verifier", "red", "--out", "again") == 0
    assert len(table(folder / "again" / "ranking.csv")) == 4


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.tsv"])
def test_a_table_of_files_and_prompts_is_grouped_by_prompt(name, folder, monkeypatch) -> None:
    rows = [("pictures/0.png", "a cat"), ("pictures/1.png", "a dog, red"), ("pictures/2.png", "a cat")]
    with (folder / name).open("w", newline="") as stream:
        if name == "t.jsonl":
            stream.writelines(json.dumps({"path": file, "text": prompt}) + "\n" for file, prompt in rows)
        else:
            csv.writer(stream, delimiter="\t" if name == "t.tsv" else ",").writerows([("file", "prompt"), *rows])
    assert run(monkeypatch, "--pictures", name, "--verifier", "red", "--out", "out", "--copy") == 0
    found = [(row["prompt"], Path(row["file"]).stem) for row in table(folder / "out" / "ranking.csv")]
    assert found == [("a cat", "2"), ("a cat", "0"), ("a dog, red", "1")]
    assert (folder / "out" / "best_1_of_2" / "00001" / "samples" / "1.png").is_file()


def test_scores_from_a_file_rank_without_a_model(folder, monkeypatch, capsys) -> None:
    rows = [{"picture": f"pictures/{number}.png", "score": number % 3} for number in range(8)]
    (folder / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    keys = ("--images", "pictures", "--prompt", "x", "--verifier", "file", "--out", "out")
    assert run(monkeypatch, *keys) == 0
    assert [Path(row["file"]).stem for row in table(folder / "out" / "ranking.csv")][:3] == ["2", "5", "1"]
    (folder / "scores.jsonl").write_text(json.dumps(rows[0]))
    assert run(monkeypatch, *keys) == 2 and "scores missing: pictures/1.png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--images", "empty", "--prompt", "x"), "empty: no pictures in it (.png, .jpg, .jpeg, .webp)"),
        (("--images", "absent", "--prompt", "x"), "absent: no such folder"),
        (("--images", "pictures"), "pictures: no folders of prompts in it; give --prompt"),
        (("--images", "pictures", "--prompt", "x", "--top", "9"), "9 of 8 pictures; 1 to 8 can be kept"),
        (("--images", "pictures", "--prompt", "x", "--top", "3", "--tournament"), "8/3 must be a power of two"),
        (
            ("--pictures", "t.csv"),
            "3 of 4 pictures cannot be read: gone.png (missing), x.png (not a picture), also.png",
        ),
        (("--pictures", "u.csv"), "u.csv:1: no column file; file,prompt is right"),
        (("--pictures", "v.csv"), "v.csv:1: not valid CSV, from here on: field larger than field limit (131072)"),
        (("--images", "pictures", "--prompt", "x", "--verifier", "rad"), "no verifier 'rad'; did you mean red"),
        (("--images", "pictures", "--prompt", "x", "--verifier", "random"), "random: reads nothing; name a verifier"),
        (("--images", "pictures", "--prompt", "x", "--verifier", "tiny_hidden_7"), "reads hidden features, which"),
        (("--images", "pictures", "--prompt", "x", "devise=cpu"), "devise: unknown key; did you mean device?"),
        ((), "name pictures by --images, or by --pictures"),
    ],
)
def test_what_cannot_be_ranked_is_one_line_and_nothing_is_written(
    arguments, message, folder, monkeypatch, capsys
) -> None:
    (folder / "empty").mkdir()
    (folder / "x.png").write_text("no picture")
    (folder / "t.csv").write_text("file,prompt\ngone.png,a\nx.png,a\npictures/0.png,a\nalso.png,b\n")
    (folder / "u.csv").write_text("name,prompt\ngone.png,a\n")
    (folder / "v.csv").write_text(f"file,prompt\ngone.png,{'a' * 140_000}\n")
    named = () if "--verifier" in arguments else ("--verifier", "red")
    assert run(monkeypatch, *arguments, *named) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1 and not (folder / "outputs").exists()


def test_an_error_is_a_vhs_error(folder) -> None:
    with pytest.raises(VHSError, match="micro_batch: .*a number from 1 on, or auto, is right"):
        vhs.rank([folder / "pictures" / "0.png"], "x", "red", micro_batch=0)
