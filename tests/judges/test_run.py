"""Runs with several judges: every picture is judged by all, and GenEval's rows stay as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import vlms
from tests.judges.test_vlm import RECORDS
from vhs.config.run import RunConfig
from vhs.errors import VHSError
from vhs.resolve import resolve
from vhs.runs.runner import run

DRAWBENCH = '"Prompts","Category"\n"A red car, and a dog.","Colors"\n"Two ""big"" dogs.","Counting"\n'
OWN = """
import numpy as np

class Red:
    def __init__(self, scale=1.0):
        self.scale = scale

    def judge_batch(self, images, records):
        return [self.scale * np.asarray(image)[..., 0].mean() / 255 for image in images]

class Wrong:
    def judge_batch(self, images, records):
        return ["good"] * len(images)

class NoJudge:
    pass
"""


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(vlms.save_qwen3_vl(tmp_path_factory.mktemp("qwen3_vl")))


@pytest.fixture
def keys(run_keys: dict[str, Any], judge_keys: dict[str, Any]) -> dict[str, Any]:
    return {**run_keys, **judge_keys, "num_samples": 2, "generation_mode": "dev"}


def finished(keys: dict[str, Any]) -> tuple[Path, str]:
    said = run(RunConfig(**keys), say=lambda line: None, bar=False)
    return Path(keys["output_path"]) / keys["name"], said


def annotations(root: Path) -> list[dict[str, Any]]:
    (file,) = root.glob("gen_eval_*/all_annotations_*.json")
    return json.loads(file.read_text())


def summary(root: Path) -> dict[str, Any]:
    return json.loads((root / "summary.json").read_text())


def refused(keys: dict[str, Any]) -> str:
    with pytest.raises(VHSError) as error:
        finished(keys)
    assert not Path(keys["output_path"]).exists(), "nothing is written"
    assert "\n" not in str(error.value)
    return str(error.value)


def test_other_judges_add_their_own_fields_and_leave_genevals_rows(keys, tmp_path) -> None:
    alone, _ = finished(keys)
    (tmp_path / "mine.py").write_text(OWN + "JUDGE = {'red': {'class': 'mine:Red', 'kwargs': {'scale': 0.5}}}\n")
    judged = {"judge": ["geneval", "geometry", "red"], "registry": str(tmp_path / "mine.py")}
    again, said = finished({**keys, **judged, "re_eval": True})
    assert again == alone
    rows = annotations(again)
    others = [row.pop("judges") for row in rows]
    finished({**keys, "output_path": str(tmp_path / "fresh")})
    (file,) = (tmp_path / "fresh").glob("*/gen_eval_*/all_annotations_*.json")
    fresh = file.read_text().replace(str(tmp_path / "fresh"), keys["output_path"])
    assert json.dumps(rows) == json.dumps(json.loads(fresh))
    assert all(set(one["geometry"]) == {"correct", "reason"} and 0 < one["red"]["score"] < 0.5 for one in others)
    reds = [np.asarray(Image.open(row["filename"]))[..., 0].mean() / 510 for row in rows]
    assert [one["red"]["score"] for one in others] == pytest.approx(reds) and len(set(reds)) == 6, (
        "each its own picture"
    )
    found = summary(again)
    assert set(found["judges"]) == {"geometry", "red"} and "judges" not in summary(tmp_path / "fresh" / keys["name"])
    table = found["judges"]["red"]["score"]
    assert table["overall"]["mean_of_candidates"]["value"] == pytest.approx(
        sum(one["red"]["score"] for one in others) / len(others)
    )
    assert table["overall"]["oracle"]["value"] >= table["overall"]["pick"]["value"]
    assert set(table["rows"]) == {"single_object", "counting", "colors"} and table["overall"]["prompts"] == 3
    assert "geometry: correct" in said and "mean over tags" in said
    record = json.loads((again / "run.json").read_text())
    assert record["judges"]["red"] == {"class": "mine:Red", "kwargs": {"scale": 0.5}}
    assert record["geneval"]["runs"] and "judge red" in record["checkpoints"]


def test_prod_judges_winners_alone(keys) -> None:
    root, _ = finished({**keys, "generation_mode": "prod", "judge": "geometry", "segmentation_ckpt_path": None})
    judged = [row for row in annotations(root) if "judges" in row]
    assert len(judged) == 3 and all("correct" not in row for row in judged)
    table = summary(root)["judges"]["geometry"]["correct"]
    assert set(table["overall"]) == {"prompts", "pick"}


def test_geneval2_reads_its_questions_from_the_prompt_file(keys, qwen, tmp_path) -> None:
    file = tmp_path / "geneval2_data.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    judged = {"annotation": str(file), "judge": ["geneval2", "vqa_score"], "judge_model": qwen}
    root, said = finished({**keys, **judged})
    rows = annotations(root)
    assert [len(row["judges"]["geneval2"]["atoms"]) for row in rows] == [4, 4, 1, 1]
    assert all(0 < row["judges"]["vqa_score"]["score"] < 1 for row in rows)
    found = summary(root)["judges"]
    gm, skills = found["geneval2"]["Soft-TIFA GM"], found["geneval2"]["Soft-TIFA AM by skill"]
    assert list(gm["rows"]) == ["4 atoms", "3 atoms"] and gm["overall"]["prompts"] == 2
    assert set(skills["rows"]) == {"count", "attribute", "position", "object"} and "overall" not in skills
    counts = [row["judges"]["geneval2"]["atoms"][i] for row in rows[:2] for i in (0, 3)]
    assert skills["rows"]["count"]["mean_of_candidates"]["value"] == pytest.approx(sum(counts) / 4)
    assert "geneval2: Soft-TIFA AM by skill" in said and "vqa_score: P(yes)" in said


def test_drawbench_is_read_as_published_and_judged_by_category(keys, qwen, tmp_path) -> None:
    (tmp_path / "DrawBench.csv").write_text(DRAWBENCH)
    judged = {"annotation": str(tmp_path / "DrawBench.csv"), "judge": "vqa_score", "judge_model": qwen}
    root, _ = finished({**keys, **judged, "num_samples": 1})
    table = summary(root)["judges"]["vqa_score"]["P(yes)"]
    assert list(table["rows"]) == ["Colors", "Counting"]
    first = root / f"gen_eval_{keys['name']}" / "00001" / "metadata.jsonl"
    assert json.loads(first.read_text()) == {"prompt": 'Two "big" dogs.', "Category": "Counting"}


def test_judges_are_none_where_the_configuration_says_so(keys) -> None:
    settled = resolve(RunConfig(**keys, judge="none"))
    assert settled.judges == () and settled.judge_skipped == "judge is none"
    assert [judge.name for judge in resolve(RunConfig(**keys)).judges] == ["geneval"]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"judge": "genevl2"}, "judge: no judge 'genevl2'; did you mean geneval2"),
        ({"judge": ["geneval", "none"]}, "judge: none stands alone, here with geneval"),
        ({"judge": "geneval", "segmentation_ckpt_path": None}, "judge: geneval needs a detector; give segmentation_"),
        (
            {"judge": "geneval2"},
            "prompts.json: record 1: no questions (vqa_list), which geneval2 judges by; geneval2_data.jsonl",
        ),
        ({"judge": "geneval2", "annotation": "no/geneval2_data.jsonl"}, "no such file; the questions of geneval2_data"),
        ({"judge": "vqa_score", "judge_model": "no/such/folder"}, "judge_model: no/such/folder: no such folder"),
        ({"judge": "lame", "registry": "mine.py"}, "mine.py: lame: NoJudge lacks judge_batch(images, records)"),
        ({"judge": "typo", "registry": "mine.py"}, "mine.py: typo: kind 'vqascore'; did you mean vqa_score"),
    ],
)
def test_what_cannot_judge_is_one_line_before_a_model_loads(keys, qwen, tmp_path, changes, message) -> None:
    (tmp_path / "mine.py").write_text(
        OWN + "JUDGE = {'lame': {'class': 'mine:NoJudge'}, 'typo': {'kind': 'vqascore'}}\n"
    )
    (tmp_path / "prompts.json").write_text('[\n{"prompt": "a cat"}]')
    changes = {key: str(tmp_path / value) if key == "registry" else value for key, value in changes.items()}
    assert message in refused({**keys, "judge_model": qwen, **changes})


def test_a_judge_that_returns_no_number_is_named(keys, tmp_path) -> None:
    (tmp_path / "mine.py").write_text(OWN + "JUDGE = {'wrong': {'class': 'mine:Wrong'}}\n")
    with pytest.raises(VHSError, match="wrong: judge_batch returned 'good' for a picture; a number or Marks is right"):
        finished({**keys, "judge": "wrong", "registry": str(tmp_path / "mine.py")})
