"""Prompts that an evaluation asks are not trained on, are listed, and are counted."""

import json

import pytest

from vhs.errors import ConfigError
from vhs.training.decontaminate import Overlap, normalised, overlaps
from vhs.training.trainer import Trainer

GENEVAL = "data/evaluation_metadata.json"


def test_what_counts_as_the_same_prompt():
    assert normalised("A  photo of a\u00a0Bench!") == normalised("a photo of a bench")
    assert normalised("a photo of two benches") != normalised("a photo of a bench")
    found = overlaps(["a photo of a bench", "A photo of a bench.", "a bench at night", "a photo of a bench"])
    assert found == [
        Overlap("a photo of a bench", "exact", GENEVAL), Overlap("A photo of a bench.", "normalised", GENEVAL)
    ]  # fmt: skip


def test_a_second_benchmark_is_checked_where_its_file_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    record = {"prompt": "three blue pigs", "atom_count": 3, "vqa_list": [["Pigs?", "Yes"]], "skills": ["object"]}
    (tmp_path / "data" / "geneval2_data.jsonl").write_text(json.dumps(record) + "\n")
    assert [one.file for one in overlaps(["Three blue pigs"])] == ["data/geneval2_data.jsonl"]


def test_a_training_leaves_them_out_and_says_so(config):
    """The set's prompts are `a photo of a <object>`, which GenEval asks, and `a photo of a a <object>`."""
    trainer = Trainer(config(decontaminate=True, max_steps=1, batch_size=8, micro_batch=8))
    texts = {data.sets[s.source].prompt(s.index).text
             for data in (trainer.train_data, trainer.eval_data) for s in data.samples}  # fmt: skip
    assert len(texts) == 8 and all(text.startswith("a photo of a a ") for text in texts)
    trainer.run()
    folder = trainer.config.folder
    assert json.loads((folder / "train.json").read_text())["left_out"] == {"exact": 12, "normalised": 0}
    rows = [json.loads(line) for line in (folder / "left_out.jsonl").read_text().splitlines()]
    assert rows[0] == {"prompt": "a photo of a bench", "kind": "exact", "file": GENEVAL}
    assert not {row["prompt"] for row in rows} & texts


def test_verdicts_on_an_evaluations_prompt_are_left_out_too(config, write_set, tmp_path):
    data = write_set(tmp_path / "set", prompts=20)
    (data / "more.jsonl").write_text(
        "".join(
            json.dumps({"prompt_id": 112 + i, "candidate": 0, "prompt": text, "correct": True}) + "\n"
            for i in range(8)
            for text in ("a photo of a bench", "a photo of a blue teapot")
        )
    )
    trainer = Trainer(config(decontaminate=True, data=[str(data)], more_labels="more.jsonl", batch_size=8))
    assert len(trainer.train_data) == 6 * 4 + 6
    assert Trainer(config(data=[str(data)], more_labels="more.jsonl")).train_data.left_out == []


def test_a_set_of_nothing_else_is_refused(config, write_set, tmp_path):
    data = write_set(tmp_path / "set", prompts=12)
    with pytest.raises(
        ConfigError, match="all 48 samples are of prompts of data/evaluation_metadata.json, first 'a ph"
    ):
        Trainer(config(decontaminate=True, data=[str(data)]))
