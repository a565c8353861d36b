"""Every shipped configuration loads, keys are strict, and a mistake is one line that names file and key."""

from pathlib import Path

import pytest

from vhs.config.yamlfile import load
from vhs.errors import CheckpointError, ConfigError
from vhs.paths import find
from vhs.training.config import EvaluateConfig, TrainConfig
from vhs.training.data.tasks import CollectConfig, NormalizeConfig, load_label_config
from vhs.training.pipeline import load_pipeline
from vhs.training.plan import describe
from vhs.training.stages import Stage, Step, load_stage

ROOT = Path(__file__).parents[2]
CLASSES = {
    "collect": CollectConfig,
    "normalize": NormalizeConfig,
    "evaluate": EvaluateConfig,
    "captions": EvaluateConfig,
}
LABELS = ("label", "caption", "refine", "clip", "metadata", "prompts")
PIPELINES = ("sana_sprint_hidden_7", "tiny")
SHIPPED = sorted([*(ROOT / "configs" / "train").glob("*.yaml"), *(ROOT / "configs" / "tiny_ablations").glob("*.yaml")])


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_shipped_configurations_load(path):
    kind = path.stem.split("_")[0]
    if path.stem in PIPELINES:
        config = load_pipeline(path)
    else:
        config = load_label_config(path) if kind in LABELS else load(CLASSES.get(kind, TrainConfig), path)
    if isinstance(config, TrainConfig) and path.parent.name == "tiny_ablations":
        assert config.name == path.stem
    assert f"{path.parent.name}/{path.name}" in path.read_text().split("base:")[0], "the header states the command"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_plan_of_every_shipped_configuration_needs_no_network(path, tmp_path, monkeypatch):
    """What it names is there, comes from another stage, is a download, or is brought: nothing is loaded."""
    monkeypatch.chdir(tmp_path)
    kind = path.stem.split("_")[0]
    if path.stem in PIPELINES:
        steps = load_pipeline(path)[1]
    else:
        commands = {"collect": "collect", "normalize": "normalize", "evaluate": "evaluate", "captions": "evaluate"}
        command = "label" if kind in LABELS else commands.get(kind, "train")
        steps = [Step(Stage(name="one", command=command, config=str(path)), load_stage(command, path, []))]
    adapter = find(f"outputs/paper/adapters/{path.stem.removeprefix('collect_')}")
    if kind == "collect" and "lora" in path.stem and not adapter.exists():  # vhs.tinyworld.adapters makes it first
        with pytest.raises(CheckpointError, match="sana_lora_weights: outputs/paper/adapters/lora_.*: no such folder"):
            describe(steps, {})
        return
    said = describe(steps, {}).splitlines()
    assert len(said) >= len(steps) + 3 and said[1].split()[1] == "all" and not list(tmp_path.iterdir())


def write(tmp_path, text: str, name: str = "c.yaml") -> Path:
    (tmp_path / name).write_text(text)
    return tmp_path / name


GOOD = "stage: align\nname: a\ndata: [x]\ninit: y\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batch_siz: 3\n", "c.yaml:5: batch_siz: unknown key; did you mean batch_size?"),
        ("batch_size: many\n", "c.yaml:5: batch_size: 'many' is of the wrong type; a whole number is needed"),
        ("loss: hinge\n", "c.yaml:5: loss: 'hinge' is not a choice"),
        ("weights: [0.5]\n", "c.yaml:5: weights: "),
        ("eval_fraction: 1.5\n", "c.yaml:5: eval_fraction: 1.5 is out of range; below 1"),
        (
            "normalization_mean_path: a.pt\n",
            "normalization_mean_path: given without normalization_variance_path; a hidden state is normalised by both",
        ),
        (
            "normalization: a\nnormalization_mean_path: b\nnormalization_variance_path: c\n",
            "names the folder of the two",
        ),
        ("question: What?\n", "c.yaml:5: question: one <image> is needed in it"),
        (
            "best_by: eval_auc\n",
            "c.yaml:5: best_by: eval_auc needs verdicts to evaluate on: stage: finetune and eval_fr",
        ),
        ("lora_rank: 4\n", "c.yaml:5: lora_rank: stage: align trains the connector alone"),
        ("feature: block_7\n", "c.yaml:5: feature: "),
        ("feature: clip\n", "vision_tower: feature: clip needs the name of the tower"),
    ],
)
def test_mistakes_are_one_line(tmp_path, text, message):
    with pytest.raises(ConfigError) as error:
        load(TrainConfig, write(tmp_path, GOOD + text))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_collection_of_nothing(tmp_path):
    path = write(tmp_path, "run: a\nannotation: b\noutput: c\nblocks: []\n")
    with pytest.raises(ConfigError, match="blocks: .*keeps nothing"):
        load(CollectConfig, path)
    with pytest.raises(ConfigError, match="names a block twice"):
        load(CollectConfig, path, ["blocks=[7, 7]"])
