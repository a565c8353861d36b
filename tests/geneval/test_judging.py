"""A folder is judged whole, once, in order; interrupted, continued, or with bad pictures in it."""

from __future__ import annotations

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from vhs.errors import ConfigError, ImageError, PromptError, RunError
from vhs.geneval import judging
from vhs.geneval.compare import compare, report
from vhs.geneval.evaluate import GenEval
from vhs.geneval.folders import candidates, export, find_pictures
from vhs.geneval.judging import JudgeOptions, judge_folder
from vhs.geneval.results import Results, read_rows
from vhs.geneval.spec import GenEvalSpec
from vhs.processes import Process
from vhs.records import TAGS
from vhs.tinyworld.drawing import render
from vhs.tinyworld.scenes import make_scene, sample_prompts

FIELDS = ["filename", "tag", "prompt", "correct", "reason", "metadata", "details"]


@pytest.fixture
def folder(tmp_path):
    """Six prompts, one a tag, two pictures each, in GenEval's layout."""
    root = tmp_path / "pictures"
    for index, record in enumerate(sample_prompts(6, 0)):
        samples = root / f"{index:05d}" / "samples"
        samples.mkdir(parents=True)
        (samples.parent / "metadata.jsonl").write_text(json.dumps(record))
        for k, ending in enumerate(("png", "jpg")):
            render(make_scene(record, 10 * index + k, "test"))[0].save(samples / f"{k:04d}.{ending}")
    return root


@pytest.fixture
def run_folder(folder, tmp_path):
    """The same as a run of ours: two candidates a prompt, one of them the winner; a seventh prompt is free text."""
    root = tmp_path / "outputs" / "mine"
    for source in sorted(folder.iterdir()):
        samples = root / "gen_eval_mine" / source.name / "samples"
        samples.mkdir(parents=True)
        shutil.copy(source / "metadata.jsonl", samples.parent)
        for k, picture in enumerate(sorted((source / "samples").iterdir())):
            Image.open(picture).save(samples / f"img_{k:05d}.png")
        shutil.copy(samples / "img_00001.png", samples / "best_00001.png")
        (samples / "00001_metadata.json").write_text("{}")
    free = root / "gen_eval_mine" / "00006" / "samples"
    free.mkdir(parents=True)
    (free.parent / "metadata.jsonl").write_text(json.dumps({"prompt": "a dream"}))
    Image.new("RGB", (64, 64)).save(free / "best_00000.png")
    return root


def go(folder, config, **options):
    said = []
    work = JudgeOptions(folder, folder / "results.jsonl", self_check=False, **options)
    rows = judge_folder(work, config, said.append)
    return rows, "\n".join(said)


def test_results_have_genevals_fields_in_order_and_a_table_follows(folder, judge_config):
    rows, said = go(folder, judge_config)
    written = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    assert written == rows and [list(row) for row in rows] == [FIELDS] * 12
    assert [Path(row["filename"]).parts[-3:] for row in rows][:2] == [
        ("00000", "samples", f"000{k}.{e}") for k, e in ((0, "png"), (1, "jpg"))
    ]
    for row in rows:
        assert json.loads(row["metadata"])["prompt"] == row["prompt"]
        for boxes in json.loads(row["details"]).values():
            assert all(len(box) == 5 and box[4] > (0.9 if row["tag"] == "counting" else 0.3) for box in boxes)
    assert all(tag in said for tag in TAGS) and "mean over prompts" in said and "12 pictures of 6 prompts" in said
    assert sorted(p.name for p in folder.glob("*results*")) == ["results.images.json", "results.jsonl"]


class Interrupted(Exception):
    pass


def interrupt_after(monkeypatch, batches):
    left = iter(range(batches))
    judge_batch = GenEval.judge_batch

    def judge_some(self, images, metadatas):
        if next(left, None) is None:
            raise Interrupted
        return judge_batch(self, images, metadatas)

    monkeypatch.setattr(GenEval, "judge_batch", judge_some)


def same_details(one, other):
    """Equal but for rounding: the size of a batch shows in the last digits of a score."""
    one, other = json.loads(one["details"]), json.loads(other["details"])
    flat = [[value for boxes in each.values() for box in boxes for value in box] for each in (one, other)]
    return list(one) == list(other) and flat[0] == pytest.approx(flat[1], abs=1e-5)


def test_an_interrupted_command_goes_on_and_ends_with_the_same_rows(folder, judge_config, monkeypatch):
    monkeypatch.setattr("vhs.geneval.detector.quick_batch", lambda size, device: 2)
    go(folder, judge_config)
    whole = (folder / "results.jsonl").read_bytes()
    record = (folder / "results.images.json").read_bytes()
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)
        with pytest.raises(Interrupted):
            go(folder, judge_config, restart=True)
    part = folder / ".results.part-0.jsonl"
    assert len(part.read_text().splitlines()) == 1 + 4 and not (folder / "results.jsonl").exists()
    part.write_text(part.read_text()[:-40])  # killed in the middle of a line
    shutil.copy(part, folder / ".results.part-3.jsonl")  # as another process would have left
    _, said = go(folder, judge_config)
    assert "3 pictures judged already, 9 to go" in said
    assert (folder / "results.jsonl").read_bytes() == whole
    assert (folder / "results.images.json").read_bytes() == record
    assert not list(folder.glob(".results*"))


def test_new_pictures_are_added_to_an_existing_file(folder, judge_config, monkeypatch):
    go(folder, judge_config)
    shutil.copy(folder / "00000/samples/0000.png", folder / "00000/samples/0002.png")
    rows, said = go(folder, judge_config)
    assert "12 pictures judged already, 1 to go" in said
    assert len(rows) == 13 and rows[2]["filename"].endswith("0002.png")
    assert rows[2]["reason"] == rows[0]["reason"] and same_details(rows[2], rows[0])
    monkeypatch.setattr(GenEvalSpec, "load", None)  # all done: nothing loads
    go(folder, judge_config)


def test_results_are_never_reused_for_other_pictures_prompts_or_judges(folder, judge_config):
    go(folder, judge_config)
    picture, results = folder / "00000/samples/0000.png", folder / "results.jsonl"
    original = picture.read_bytes()
    Image.new("RGB", (64, 64)).save(picture)
    with pytest.raises(RunError, match="0000.png: not the picture that .*results.jsonl judged"):
        go(folder, judge_config)
    picture.write_bytes(original)
    with pytest.raises(RunError, match="judged with another detector_size"):
        go(folder, judge_config.model_copy(update={"detector_size": (96, 96)}))
    metadata = folder / "00000/metadata.jsonl"
    record = json.loads(metadata.read_text())
    metadata.write_text(json.dumps({**record, "prompt": "another"}))
    with pytest.raises(RunError, match="its metadata is not what"):
        go(folder, judge_config)
    metadata.write_text(json.dumps(record))
    picture.unlink()
    with pytest.raises(RunError, match="has a verdict on 00000/samples/0000.png, which is not among these"):
        go(folder, judge_config)
    (folder / "results.images.json").unlink()
    with pytest.raises(RunError, match=r"results.images.json: is missing; it says which pictures results.jsonl is of"):
        go(folder, judge_config)
    rows, _ = go(folder, judge_config, restart=True)
    assert len(rows) == 11 and results.exists()


def test_bad_pictures_and_prompts_stop_it_or_are_left_out_and_counted(folder, judge_config):
    cut = folder / "00000/samples/0000.png"
    cut.write_bytes(cut.read_bytes()[:200])
    Image.new("RGB", (8000, 1)).save(folder / "00001/samples/0000.png")
    with pytest.raises(ImageError, match="0000.png: damaged or truncated"):
        go(folder, judge_config)
    (folder / "00002/metadata.jsonl").unlink()
    with pytest.raises(PromptError, match="00002/metadata.jsonl: missing"):
        go(folder, judge_config)
    rows, said = go(folder, judge_config, keep_going=True)
    assert len(rows) == 8
    assert "LEFT OUT: 1 prompt folders, 2 pictures" in said
    assert "00001/samples/0000.png: too thin" in said and "00000/samples/0000.png: damaged" in said


def test_of_a_run_the_winners_are_judged_or_every_candidate(run_folder, judge_config):
    rows, said = go(run_folder, judge_config)
    assert [Path(row["filename"]).name for row in rows] == ["best_00001.png"] * 6
    assert "1 prompts without GenEval's metadata not judged" in said
    work = JudgeOptions(run_folder, run_folder / "all.jsonl", every=True, self_check=False)
    rows = judge_folder(work, judge_config, lambda line: None)
    assert len(rows) == 12


def test_an_exported_run_has_the_official_layout_and_compares_equal(run_folder, judge_config, tmp_path):
    target = tmp_path / "official"
    assert export(run_folder, target) == (6, 1)
    assert sorted(p.name for p in target.iterdir()) == [f"{i:05d}" for i in range(6)]
    assert [p.name for p in (target / "00003/samples").iterdir()] == ["0000.png"]
    assert json.loads((target / "00003/metadata.jsonl").read_text())["tag"]
    go(run_folder, judge_config)
    go(target, judge_config)
    comparison = compare(run_folder / "results.jsonl", target / "results.jsonl")
    assert len(comparison.pairs) == 6 and not comparison.differing
    with pytest.raises(ConfigError, match="is not empty"):
        export(run_folder, target)


def test_comparison_counts_per_tag_and_shows_where_they_differ(folder, judge_config, tmp_path):
    rows, _ = go(folder, judge_config)
    rows[0] = {**rows[0], "correct": not rows[0]["correct"], "reason": "expected more"}
    other = tmp_path / "other.jsonl"
    other.write_text("".join(json.dumps(row) + "\n" for row in rows[:-1]))
    said = report(compare(folder / "results.jsonl", other))
    assert "single_object         2   50.0%" in said and "all                  11   90.9%" in said
    assert "without counterpart: 1 in the first, 0 in the second" in said
    assert rows[0]["prompt"] in said and "00000  single_object" in said
    other.write_text("{}\n")
    with pytest.raises(RunError, match="other.jsonl:1: not a row in GenEval's fields"):
        read_rows(other)


def test_verdicts_are_drawn_where_asked(folder, judge_config, tmp_path):
    go(folder, judge_config, draw=tmp_path / "drawn")
    drawn = Image.open(tmp_path / "drawn" / "00000_0000.png")
    assert len(list((tmp_path / "drawn").iterdir())) == 12
    assert drawn.width == 512 and drawn.height > 512


@pytest.mark.parametrize("kind", ["absent", "empty"])
def test_a_folder_without_prompts_is_refused(tmp_path, kind):
    root = tmp_path if kind == "empty" else tmp_path / "absent"
    with pytest.raises(ConfigError, match=str(root)):
        find_pictures(root, lambda metadata, where: None)


@pytest.mark.parametrize("count", [2, 3, pytest.param(7, marks=pytest.mark.slow)])
def test_processes_share_the_work_and_write_what_one_writes(folder, judge_config, monkeypatch, count):
    """Threads and a barrier stand for the processes of `accelerate launch`."""
    monkeypatch.setattr("vhs.geneval.detector.quick_batch", lambda size, device: 2)
    go(folder, judge_config)
    whole = (folder / "results.jsonl").read_bytes()
    barrier, own = threading.Barrier(count, timeout=60), threading.local()
    monkeypatch.setattr(judging, "current_process", lambda *_: Process(own.index, count, own.index, barrier.wait))
    lengths = []
    append = Results.append
    monkeypatch.setattr(Results, "append", lambda self, rows: lengths.append(len(rows)) or append(self, rows))

    lock, load = threading.Lock(), GenEvalSpec.load

    def one_at_a_time(*arguments, **options):  # transformers patches its base class while it loads
        with lock:
            return load(*arguments, **options)

    monkeypatch.setattr(GenEvalSpec, "load", one_at_a_time)

    def process(index):
        own.index = index
        return go(folder, judge_config, restart=True)[0]

    with ThreadPoolExecutor(count) as pool:
        first, *others = pool.map(process, range(count))
    assert others == [[]] * (count - 1) and lengths == [2] * 6 and len(first) == 12
    assert (folder / "results.jsonl").read_bytes() == whole
    assert not list(folder.glob(".results*"))


def listed(
    folder: Path, tmp_path: Path, name: str = "table.csv", rows: list[tuple[str, str, str]] | None = None
) -> Path:
    """A table of the folder's pictures under other names, flat, with an id of the user's own per prompt."""
    flat = tmp_path / "flat"
    flat.mkdir()
    found = []
    for place in sorted(folder.iterdir()):
        prompt = json.loads((place / "metadata.jsonl").read_text())["prompt"]
        for number, picture in enumerate(sorted((place / "samples").iterdir())):
            target = f"{place.name}-{'ab'[number]}{picture.suffix}"
            shutil.copy(picture, flat / target)
            found.append((f"mine-{place.name}", target, prompt))
    lines = ["id,file,prompt", *(f'{own},{file},"{prompt}"' for own, file, prompt in rows or found)]
    (flat / name).write_text("\n".join(lines) + "\n")
    return flat / name


def test_pictures_of_any_names_are_judged_by_a_table_of_prompts(folder, judge_config, tmp_path) -> None:
    table = listed(folder, tmp_path)
    said = []
    options = JudgeOptions(table.parent, tmp_path / "results.jsonl", table, self_check=False)
    rows = judge_folder(options, judge_config, said.append)
    laid_out = judge_folder(JudgeOptions(folder, tmp_path / "other.jsonl", self_check=False), judge_config, said.append)
    assert [row["correct"] for row in rows] == [row["correct"] for row in laid_out] and len(rows) == 12
    assert [json.loads(row["metadata"])["id"] for row in rows[:3]] == ["mine-00000", "mine-00000", "mine-00001"]
    assert json.loads(rows[0]["metadata"])["include"] == json.loads(laid_out[0]["metadata"])["include"]


def test_prompts_that_the_rules_cannot_read_are_named_and_left_out(folder, judge_config, tmp_path) -> None:
    rows = [("0", "00000-a.png", "a photo of a star"), ("1", "00001-a.png", "a dream of a star")]
    table = listed(folder, tmp_path, rows=rows)
    said = []
    options = JudgeOptions(table.parent, tmp_path / "results.jsonl", table, self_check=False)
    assert len(judge_folder(options, judge_config, said.append)) == 1
    assert any("table.csv:3: 'a dream of a star' has not the form of a GenEval prompt" in line for line in said)
    assert "LEFT OUT: 1 prompts" in said[-1]
    (table.parent / "dreams.csv").write_text("file,prompt\n00001-a.png,a dream\n")
    with pytest.raises(ConfigError, match="dreams.csv:2: 'a dream' has not the form .*, and no other prompt either"):
        judge_folder(JudgeOptions(table.parent, tmp_path / "none.jsonl", table.parent / "dreams.csv"), judge_config)
    (table.parent / "gone.csv").write_text(
        "file,prompt\nx.png,a photo of a star\n00001-a.png,a photo of a star\ny.png,a\n"
    )
    with pytest.raises(ImageError, match="2 of 3 pictures cannot be read: .*x.png .missing., .*y.png .missing."):
        judge_folder(JudgeOptions(table.parent, tmp_path / "none.jsonl", table.parent / "gone.csv"), judge_config)
    assert not (tmp_path / "none.jsonl").exists()


def test_candidates_are_found_in_every_layout(run_folder, folder, tmp_path) -> None:
    assert [path.name for path in candidates(run_folder, 2)] == ["img_00000.png", "img_00001.png"]
    assert [path.name for path in candidates(run_folder / "gen_eval_mine", 2)] == ["img_00000.png", "img_00001.png"]
    assert [path.name for path in candidates(folder, 2)] == ["0000.png", "0001.jpg"]
    export(run_folder, tmp_path / "exported")
    assert [path.name for path in candidates(tmp_path / "exported", 2)] == ["0000.png"]
    assert candidates(folder, 99) == []


def test_pictures_are_counted_by_their_number_not_by_their_name(tmp_path):
    samples = tmp_path / "00000" / "samples"
    samples.mkdir(parents=True)
    for number in (10, 9, 0):
        Image.new("RGB", (4, 4)).save(samples / f"{number}.png")
    assert [path.name for path in candidates(tmp_path, 0)] == ["0.png", "9.png", "10.png"]
