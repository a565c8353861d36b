"""The rows of the ablation table: what each resolves to, and how rows are compared."""

import json
from pathlib import Path

import pytest
import yaml

from vhs.config.yamlfile import build
from vhs.errors import ConfigError
from vhs.folders import locked
from vhs.training import ablations
from vhs.training.config import EvaluateConfig, TrainConfig

ROOT = Path(__file__).parents[2]


@pytest.fixture
def work(tmp_path, monkeypatch):
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "outputs" / "paper").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def result(name: str, bests: list[float], right: float = 0.5) -> None:
    prompts = [f"prompt {i}" for i in range(len(bests))]

    def interval(mean: float) -> dict:
        return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}

    mean = sum(bests) / len(bests)
    found = {
        "config": {"output": f"{name}.json"}, "right": right, "within_prompt_auc": interval(0.7),
        "best_of": [{"n": 8, "verifier": interval(mean), "gain": interval(mean - right)}],
        "per_prompt": [{"prompt": prompt, "best": best} for prompt, best in zip(prompts, bests, strict=True)],
    }  # fmt: skip
    Path(f"outputs/paper/{name}.json").write_text(json.dumps(found))


@pytest.mark.parametrize("ablation", ablations.ABLATIONS, ids=lambda ablation: ablation.name)
def test_every_row_trains_on_one_feature_and_is_evaluated_on_it(ablation, work):
    trained = ablations.trainings(ablation)
    if not trained:
        config = ablations.evaluation(ablation, None)
        mean = {"hidden_7": "ckpts/tiny/normalization/block_7_mean_bf16.pt", "clip": None}[config.feature]
        assert config.verifier == f"ckpts/tiny/verifier_{config.feature}" and config.normalization_mean_path == mean
        assert Path(config.output).stem == ablation.name
        return
    assert trained[-1].stage == "finetune" and len({config.feature for config in trained}) == 1
    if len(trained) == 2:
        assert trained[0].stage == "align" and Path(trained[1].init) == trained[0].folder / "checkpoint"
        assert trained[0].seed == trained[1].seed
    config = ablations.evaluation(ablation, trained[-1])
    assert config.feature == trained[-1].feature and Path(config.verifier) == trained[-1].folder / "checkpoint"
    assert config.normalization_mean_path == trained[-1].normalization_mean_path
    assert not set(config.data) & set(trained[-1].data), "evaluated on what it was trained on"


def test_a_row_differs_from_the_reference_in_what_it_is_called_after(work):
    reference = ablations.trainings(ablations.choose([ablations.REFERENCE])[0])[-1].model_dump()

    def changed(name: str) -> dict:
        config = ablations.trainings(ablations.choose([name])[0])[-1].model_dump()
        return {key: value for key, value in config.items() if value != reference[key] and key not in ("name", "init")}

    folder = "outputs/paper/normalization/block_5"
    assert changed("block_5") == {
        "feature": "hidden_5",
        "normalization_mean_path": f"{folder}_mean_bf16.pt",
        "normalization_variance_path": f"{folder}_variance_bf16.pt",
    }
    assert changed("input_ae") == {
        "feature": "latent", "normalization_mean_path": None, "normalization_variance_path": None
    }  # fmt: skip
    assert changed("data_own") == {"more_labels": None, "epochs": 3}
    assert changed("finetune_seed_1") == {"seed": 1} and changed("data_no_align") == {}


@pytest.mark.parametrize(("name", "trainings"), [("block_5", 2), ("no_scoring", 0)])
def test_a_row_shows_whole_configurations_that_load_as_they_are(name, trainings, work):
    row = ablations.choose([name])[0]
    *trained, evaluated = yaml.safe_load_all(ablations.show(row, ["seed=7"]))
    assert [build(TrainConfig, values) for values in trained] == ablations.trainings(row, ["seed=7"])
    assert len(trained) == trainings and all(values["seed"] == 7 for values in trained)
    last = ablations.trainings(row, ["seed=7"])[-1] if trainings else None
    assert build(EvaluateConfig, evaluated) == ablations.evaluation(row, last)
    assert set(evaluated) == set(EvaluateConfig.model_fields), "every key is shown"


def test_every_file_of_a_training_belongs_to_a_row():
    used = {file for ablation in ablations.ABLATIONS for file, *_ in (*ablation.train, ablation.evaluate)}
    files = {
        path.stem
        for path in (ROOT / "configs" / "tiny_ablations").glob("*.yaml")
        if not path.stem.startswith("collect_")
    }
    assert files - {"normalize"} == used


def test_rows_are_compared_prompt_by_prompt(work):
    result("finetune", [1, 0, 1, 0])
    result("block_5", [1, 0, 0, 0])
    result("lora_50", [1, 1, 1, 1], right=0.7)
    lines = ablations.table(ablations.choose([])).splitlines()
    assert len(lines) == 5
    block, lora = lines[3].split(" | "), lines[4].split(" | ")
    assert block[0] == "| `block_5`" and block[3].startswith("25.0 (") and block[5].startswith("-25.0 (-75.0 to +0.0)")
    assert lora[0] == "| `lora_50`" and lora[5] == "", "another generator's candidates are not the same"


def test_a_row_that_is_compared_with_another_than_the_heading_says_so(work):
    result("finetune", [1, 1, 1, 1])
    result("data_own", [1, 0, 1, 0])
    result("own_focal", [1, 0, 0, 0])
    data, focal = (line.split(" | ") for line in ablations.table(ablations.choose([])).splitlines()[3:])
    assert data[5].startswith("-50.0 (") and data[5].endswith(")")
    assert focal[5].startswith("-25.0 (") and focal[5].endswith("), to `data_own`")


def test_one_tag_is_a_table_of_its_own(work):
    for name, bests, auc in (("finetune", [1, 0, 1, 0], 0.6), ("loss_focal", [1, 1, 0, 0], None)):
        result(name, bests)
        file = Path(f"outputs/paper/{name}.json")
        found = json.loads(file.read_text())
        for row, tag in zip(found["per_prompt"], ("counting", "counting", "colors", "colors"), strict=True):
            row["tag"] = tag
        found["by_tag"] = {tag: {"best_of_1": 0.4, "within_prompt_auc": auc} for tag in ("counting", "colors")}
        file.write_text(json.dumps(found))
    finetune, own = (
        line.split(" | ") for line in ablations.table_of("counting", ablations.choose([])).splitlines()[2:]
    )
    assert finetune[2:] == ["40.0", "50.0 (0.0 to 100.0)", "", "0.600 |"]
    assert own[2:4] == ["40.0", "100.0 (100.0 to 100.0)"] and own[4].startswith("+50.0 (") and own[5] == " |"
    with pytest.raises(ConfigError, match=r"finetune.json: no prompt of tag cats, there are colors, counting; remove"):
        ablations.table_of("cats", ablations.choose([]))


def test_other_prompts_are_not_compared(work):
    result("finetune", [1, 0, 1, 0])
    result("block_5", [1, 0, 1])
    block, finetune = (json.loads(Path(f"outputs/paper/{name}.json").read_text()) for name in ("block_5", "finetune"))
    with pytest.raises(ConfigError, match="block_5.json: other prompts than finetune.json's"):
        ablations.difference(block, finetune)


def test_a_row_with_figures_is_not_run_again(work, monkeypatch):
    result("finetune", [1, 0])
    monkeypatch.setattr(ablations, "run_train", lambda *_: pytest.fail("trained again"))
    ablations.run(ablations.choose(["finetune"])[0], [], print)


def test_a_training_that_rows_share_is_waited_for(work, monkeypatch):
    config = ablations.trainings(ablations.choose([ablations.REFERENCE])[0])[0]
    said, looks = [], []

    def run_train(config: TrainConfig, say: ablations.Say) -> str:
        looks.append(config.name)
        if len(looks) == 3:
            other.__exit__(None, None, None)
        with locked(config.folder, "training"):
            return "trained"

    monkeypatch.setattr(ablations, "run_train", run_train)
    monkeypatch.setattr(ablations, "PATIENCE", 0.01)
    other = locked(config.folder, "training")
    other.__enter__()
    assert ablations._trained(config, said.append) == "trained" and looks == ["align"] * 3
    assert len(said) == 1 and said[0].endswith("waiting")


def test_an_unknown_row_is_named():
    with pytest.raises(ConfigError, match="block_6: no such ablation; did you mean block_.*; there are shipped, "):
        ablations.choose(["block_6"])


@pytest.mark.parametrize(("key", "value"), [("right", None), ("best_of", []), ("within_prompt_auc", {"mean": "x"})])
def test_figures_of_another_form_are_one_line(work, key, value):
    result(ablations.REFERENCE, [0.5, 1.0])
    file = Path(f"outputs/paper/{ablations.REFERENCE}.json")
    assert "`finetune`" in ablations.table(ablations.choose([]))
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(ConfigError, match=rf"{file}: {key}.*; remove it to evaluate the row again"):
        ablations.table(ablations.choose([]))
