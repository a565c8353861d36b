"""Nothing that a stage of training finished is lost, whatever is asked and whenever a process is killed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from safetensors.torch import load_file

from tests.kills import every_kill
from vhs.errors import RunError
from vhs.files import read_json, write_bytes, write_json
from vhs.folders import locked
from vhs.pictures import encode
from vhs.records import Prompt, Verdict
from vhs.training.commands import run_evaluate, run_train
from vhs.training.config import EvaluateConfig
from vhs.training.data.commands import run_normalize
from vhs.training.data.labels import read_labels, write_labels
from vhs.training.data.layout import Layout
from vhs.training.data.store import (
    CollectedSet,
    close_set,
    decide_set,
    missing_shards,
    open_set,
    shard_path,
    write_shard,
)
from vhs.training.data.tasks import NormalizeConfig
from vhs.training.folder import (
    close_training,
    decide_training,
    describe,
    manifest,
    open_training,
    read_state,
    recover,
    replace_state,
)
from vhs.training.made import Made
from vhs.training.trainer import train


def silent(line: str) -> None:
    """Nobody listens."""


# ------------------------------------------------------------------------------------------------------------ training


def test_a_finished_training_is_already_done(config) -> None:
    settings, said = config(max_steps=2), []
    first = run_train(settings, silent)
    kept = {file: file.stat().st_mtime_ns for file in settings.folder.rglob("*") if file.is_file()}
    assert run_train(settings, said.append) == first
    assert said == [f"{settings.folder}: already done; overwrite=true makes it again"]
    assert {file: file.stat().st_mtime_ns for file in settings.folder.rglob("*") if file.is_file()} == kept
    record = json.loads((settings.folder / "train.json").read_text())
    del record["config"]["best_by"]  # a key that an earlier version did not have
    (settings.folder / "train.json").write_text(json.dumps(record))
    assert run_train(settings, silent) == first
    with pytest.raises(RunError, match="best_by: 'eval_loss', now 'eval_auc'"):
        run_train(settings.model_copy(update={"best_by": "eval_auc"}), silent)


def test_another_training_is_refused_and_replaced_when_asked(config) -> None:
    """The old one is whole beside the new one until that is finished; what is nobody's stays."""
    first = train(config(max_steps=2))
    (first.checkpoint.parent / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match=r"made by another training \(max_steps: 2, now 3\); give this one another name"):
        train(config(max_steps=3, cont=True))
    seen = []
    train(
        config(max_steps=3, overwrite=True),
        lambda *_: seen.append(sorted(path.name for path in first.checkpoint.parents[1].glob("run.old-*/checkpoint"))),
    )
    assert seen[0] == ["checkpoint"]
    [aside] = first.checkpoint.parents[1].glob("run.old-*")
    assert [path.name for path in aside.iterdir()] == ["notes.txt"]
    assert manifest(config().folder)["step"] == 3


@pytest.mark.parametrize("name", ["checkpoint", "log.jsonl", "state.old"])
def test_files_that_are_no_trainings_are_not_touched(config, name: str) -> None:
    place = config().folder / name / "mine"
    place.parent.mkdir(parents=True)
    place.write_text("mine")
    with pytest.raises(RunError, match=rf"holds {name} but no train.json, so it is no training of this project"):
        train(config(overwrite=True))
    assert place.read_text() == "mine"


def test_an_unfinished_training_is_gone_on_with_when_asked(config, monkeypatch) -> None:
    from vhs.training import state

    settings = config(max_steps=2, save_every=1)
    with monkeypatch.context() as broken:
        broken.setattr(state, "finish", lambda *_: pytest.fail("stopped"))
        with pytest.raises(pytest.fail.Exception):
            train(settings)
    with pytest.raises(RunError, match=r"holds this training, unfinished \(saved at step 2\); go on with cont: true"):
        train(settings)
    assert train(config(max_steps=2, save_every=1, cont=True)).steps == 2


def test_auto_precision_is_recorded_as_what_it_was(config, monkeypatch) -> None:
    """A training that began in bfloat16 does not go on in float32 because another machine is slow in bfloat16."""

    def trained(name: str, precision: str) -> dict[str, torch.Tensor]:
        AcceleratorState._reset_state()  # the precision is fixed once a process
        result = train(config(max_steps=2, precision=precision, save_dtype="float32", name=name))
        return load_file(result.checkpoint / "model.safetensors")

    made = {}
    for fast, meant in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr("vhs.device.has_bfloat16", lambda device, fast=fast: fast)
        made[fast], named = trained(f"auto_{meant}", "auto"), trained(meant, meant)
        assert all(torch.equal(made[fast][key], named[key]) for key in named)
        assert manifest(config(name=f"auto_{meant}").folder)["config"]["precision"] == meant
    assert any(not torch.equal(made[True][key], made[False][key]) for key in made[True])
    with pytest.raises(RunError, match="precision: 'bfloat16', now 'float32'"):
        trained("auto_bfloat16", "auto")
    AcceleratorState._reset_state()


def test_two_trainings_at_once_are_one(config) -> None:
    with locked(config().folder), pytest.raises(RunError, match="another training is being written there"):
        train(config())


@pytest.mark.parametrize("what", ["labels", "features", "init", "statistics"])
def test_a_training_notices_what_it_reads_by_content(config, tmp_path, write_set, language_model, what: str) -> None:
    folder, start = write_set(tmp_path / "set"), tmp_path / "start"
    shutil.copytree(language_model, tmp_path / "model")
    start.symlink_to(tmp_path / "model")
    normalize = NormalizeConfig(data=[str(folder)], output=str(tmp_path / "statistics"))
    found = run_normalize(normalize, silent)
    mean, variance = found.paths
    paths = {"normalization_mean_path": str(mean), "normalization_variance_path": str(variance)}
    keys = {"data": [str(folder)], "init": str(start), "max_steps": 1, **paths}
    train(config(**keys))
    if what == "labels":
        text = (folder / "labels.jsonl").read_text()
        (folder / "labels.jsonl").write_text(text.replace('"correct": true', '"correct": false', 1))
    elif what == "features":
        first, last = shard_path(folder, 0), shard_path(folder, 1)
        first.write_bytes(last.read_bytes())
    elif what == "init":
        tokens = json.loads((tmp_path / "model" / "tokenizer_config.json").read_text())
        (tmp_path / "model" / "tokenizer_config.json").write_text(json.dumps({**tokens, "model_max_length": 99}))
    else:
        mean.write_bytes(variance.read_bytes())
    with pytest.raises(RunError, match="has other content than before"):
        train(config(**keys, cont=True))


def test_a_killed_training_is_one_or_the_other(config) -> None:
    """Every file operation of a training that replaces another one, without models: the old checkpoint is whole
    somewhere until the new one is finished, and the same command ends with the new one alone."""
    old, new = config(max_steps=2), config(max_steps=3, overwrite=True)

    def training(settings, opening) -> None:
        folder = settings.folder
        now = {"config": settings.model_dump(mode="json"), "reads": {}}
        open_training(opening, folder, now)
        for step in range(settings.max_steps):
            record = {"record": {"step": step + 1}}
            write_json(folder / "state.partial" / "record.json", record)
            replace_state(folder)
            write_bytes(folder / "checkpoint" / "model", str(settings.max_steps).encode())
        write_json(folder / "train.json", {**now, "step": settings.max_steps, "seconds": 1.0})
        close_training(folder)

    def decision(settings) -> str:
        return decide_training(settings, {"config": settings.model_dump(mode="json"), "reads": {}})

    training(old, "start")

    def check(at: int) -> None:
        there = [folder for folder in old.folder.parent.iterdir() if (folder / "train.json").is_file()]
        finished = [read_json(folder / "train.json") for folder in there]
        assert any("seconds" in one for one in finished), at
        recover(new.folder)
        if new.folder.exists() and manifest(new.folder) and manifest(new.folder)["config"]["max_steps"] == 3:
            again = config(max_steps=3, cont=True)
            opening = decision(again)
            assert opening in ("continue", "done")
            assert opening == "done" or read_state(new.folder) is None or read_state(new.folder)["record"]["step"] <= 3
        else:
            opening = decision(new)
        training(new, "continue" if opening == "done" else opening)
        assert (new.folder / "checkpoint" / "model").read_text() == "3"
        left = sorted(path.name for path in new.folder.iterdir())
        assert left == ["checkpoint", "state", "train.json"], at
        for folder in old.folder.parent.iterdir():
            shutil.rmtree(folder, ignore_errors=True)
        training(old, "start")

    assert every_kill(lambda: training(new, decision(new)), check) > 15


# ---------------------------------------------------------------------------------------------------------- collecting

PROMPTS = [Prompt(i, f"a photo of a {word}", None) for i, word in enumerate(("cat", "dog"))]


def layout(seed: int, **changes) -> Layout:
    return Layout(**{"features": {}, "dtype": "float32", "prompts": 2, "candidates": 1, "prompts_per_shard": 1,
                     "pictures": "png", "settings": {"seed": seed, "content": {"ckpt": "a"}}} | changes)  # fmt: skip


def collect(folder: Path, seed: int, overwrite: bool = False) -> str:
    """What collecting does with a folder, its pictures filled with `seed`; what was decided."""
    opening = decide_set(folder, layout(seed), PROMPTS, overwrite)
    if opening != "done":
        open_set(opening, folder, layout(seed), PROMPTS)
        for shard in missing_shards(folder, layout(seed)):
            tensors = {"prompt": torch.tensor([shard]), "candidate": torch.tensor([0])}
            write_shard(folder, shard, tensors, [encode(Image.new("RGB", (8, 8), (seed, 0, 0)), "png")])
    close_set(folder)
    return opening


def test_a_set_is_left_refused_or_replaced(tmp_path) -> None:
    folder = tmp_path / "set"
    assert collect(folder, 1) == "start" and collect(folder, 1) == "done"
    (folder / "labels.jsonl").write_text("mine")
    with pytest.raises(RunError, match=r"made by another set \(seed: 1, now 2\); choose another output folder"):
        collect(folder, 2)
    with pytest.raises(RunError, match=r"ckpt has other content than before"):
        decide_set(folder, layout(1, settings={"seed": 1, "content": {"ckpt": "b"}}), PROMPTS)
    assert collect(folder, 2, overwrite=True) == "replace"
    assert CollectedSet(folder).picture(0).getpixel((0, 0)) == (2, 0, 0) and not (folder / "labels.jsonl").exists()
    [aside] = tmp_path.glob("set.old-*")
    assert [file.name for file in aside.iterdir()] == ["labels.jsonl"]


def test_a_folder_with_somebody_elses_prompts_is_not_collected_into(tmp_path) -> None:
    (tmp_path / "prompts.jsonl").write_text("mine")
    with pytest.raises(RunError, match="holds prompts.jsonl but no index.json, so it is no set of this project"):
        collect(tmp_path, 1, overwrite=True)
    assert (tmp_path / "prompts.jsonl").read_text() == "mine"


def test_a_killed_collecting_is_one_or_the_other(tmp_path) -> None:
    folder = tmp_path / "set"
    collect(folder, 1)

    def whole(place: Path) -> bool:
        return (place / "index.json").exists() and len(list((place / "shards").glob("shard_*"))) == 2

    def check(at: int) -> None:
        assert any(whole(place) for place in tmp_path.iterdir() if place.is_dir()), at
        there = (folder / "index.json").exists() and read_json(folder / "index.json")["settings"]["seed"] == 2
        collect(folder, 2, overwrite=not there)
        assert {CollectedSet(folder).picture(i).getpixel((0, 0))[0] for i in range(2)} == {2}
        assert sorted(path.name for path in folder.iterdir()) == ["index.json", "prompts.jsonl", "shards"], at
        for place in tmp_path.iterdir():
            shutil.rmtree(place)
        collect(folder, 1)

    assert every_kill(lambda: collect(folder, 2, overwrite=True), check) > 8


# ----------------------------------------------------------------------------------------------------------- labelling


def labelling(folder: Path, verdict: bool, overwrite: bool = False) -> bool:
    """Labels the set's pictures with `verdict`; whether there was anything to do."""
    made = Made((folder / "labels.jsonl",), {"verdict": verdict}, {}, overwrite)
    if made.done():
        return False
    write_labels(
        CollectedSet(folder),
        lambda pictures, records: [Verdict(verdict, "") for _ in pictures],
        source=str(verdict),
        made=made,
    )
    return True


@pytest.fixture
def pictures(tmp_path) -> Path:
    """A set of two pictures that GenEval can judge."""
    folder = tmp_path / "set"
    records = [{"tag": "single_object", "include": [{"class": "cat", "count": 1}], "prompt": p.text} for p in PROMPTS]
    prompts = [Prompt(p.id, p.text, record) for p, record in zip(PROMPTS, records, strict=True)]
    open_set("start", folder, layout(1, prompts_per_shard=2), prompts)
    files = [encode(Image.new("RGB", (8, 8)), "png") for _ in prompts]
    write_shard(folder, 0, {"prompt": torch.arange(2)}, files)
    return folder


def test_labels_are_left_refused_or_replaced(pictures) -> None:
    assert labelling(pictures, True) and not labelling(pictures, True)
    with pytest.raises(RunError, match=r"labels.jsonl: made otherwise \(verdict: True, now False\); choose another"):
        labelling(pictures, False)
    assert labelling(pictures, False, overwrite=True) and set(read_labels(CollectedSet(pictures)).values()) == {False}
    (pictures / "labels.jsonl").write_text((pictures / "labels.jsonl").read_text().replace("false", "true", 1))
    with pytest.raises(RunError, match=r"labels.jsonl: was changed since it was made; overwrite=true makes it again"):
        labelling(pictures, False)


def test_a_labels_file_of_ones_own_is_not_written_over(pictures) -> None:
    (pictures / "labels.jsonl").write_text("mine")
    with pytest.raises(RunError, match=r"no labels.jsonl.made.json says how it was made"):
        labelling(pictures, True, overwrite=True)
    assert (pictures / "labels.jsonl").read_text() == "mine"


def test_a_killed_labelling_is_one_or_the_other(pictures) -> None:
    labelling(pictures, True)
    before = {file.name: file.read_bytes() for file in pictures.glob("labels.jsonl*")}

    def check(at: int) -> None:
        assert len(set(read_labels(CollectedSet(pictures)).values())) == 1, at
        labelling(pictures, False, overwrite=True)
        assert set(read_labels(CollectedSet(pictures)).values()) == {False} and not labelling(pictures, False)
        assert not list(pictures.glob("*.parts")), at
        for name, data in before.items():
            (pictures / name).write_bytes(data)

    assert every_kill(lambda: labelling(pictures, False, overwrite=True), check) > 5


# ------------------------------------------------------------------------------------------- statistics and evaluations


def test_statistics_and_figures_are_left_refused_or_made_again(config, collected, tmp_path) -> None:
    normalize = NormalizeConfig(data=[str(collected)], output=str(tmp_path / "statistics"))
    said: list[str] = []
    found = run_normalize(normalize, silent)
    assert run_normalize(normalize, said.append) == found and "already done" in said[0]
    record = tmp_path / "statistics" / "block_7_mean_bf16.pt.made.json"
    former = json.loads(record.read_text())
    assert former["config"].pop("per") == normalize.per  # a key that an earlier version did not have
    record.write_text(json.dumps(former))
    assert run_normalize(normalize, silent) == found
    with pytest.raises(RunError, match=r"made otherwise \(samples: None, now 9\)"):
        run_normalize(normalize.model_copy(update={"samples": 9}), silent)
    again = run_normalize(normalize.model_copy(update={"samples": 9, "overwrite": True}), silent)
    assert again.count < found.count

    checkpoint = train(config(max_steps=1)).checkpoint
    evaluate = EvaluateConfig(verifier=str(checkpoint), data=[str(collected)], output=str(tmp_path / "found.json"),
                              best_of=[1, 2], resamples=100, device="cpu")  # fmt: skip
    figures = run_evaluate(evaluate, silent).figures
    assert run_evaluate(evaluate, said.append).figures == figures and "found.json: already done" in said[1]
    train(config(name="other", seed=1, max_steps=1))
    shutil.copytree(config(name="other").folder / "checkpoint", checkpoint, dirs_exist_ok=True)
    with pytest.raises(RunError, match=r"found.json: made otherwise \(verifier has other content than before\)"):
        run_evaluate(evaluate, silent)
    assert describe(config())["reads"]["data[0]"] == describe(config(name="other"))["reads"]["data[0]"]


def test_killed_between_two_files_of_a_pair_the_same_command_makes_both_again(tmp_path) -> None:
    paths = tmp_path / "mean", tmp_path / "variance"

    def write(value: bytes) -> bool:
        made = Made(paths, {"value": str(value)}, overwrite=True)
        made.write(dict.fromkeys(paths, value))
        return Made(paths, {"value": str(value)}).done()

    write(b"old")

    def check(at: int) -> None:
        done = read_json(tmp_path / "mean.made.json").get("files")
        assert done is None or len({path.read_bytes() for path in paths}) == 1, at
        assert write(b"new") and {path.read_bytes() for path in paths} == {b"new"}
        write(b"old")

    assert every_kill(lambda: write(b"new"), check) == 4
