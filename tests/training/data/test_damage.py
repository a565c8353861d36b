"""What a set or a file beside it may not hold: each is one line, and nothing of it is taken silently."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vhs.config.yamlfile import build
from vhs.errors import ConfigError
from vhs.training.config import TrainConfig
from vhs.training.data.features import finite_rows
from vhs.training.data.labels import read_labels, read_more_labels
from vhs.training.data.store import CollectedSet, shard_path, write_shard
from vhs.training.dataset import load_data
from vhs.verifiers.language_model import load_tokenizer


@pytest.fixture
def folder(write_set, tmp_path) -> Path:
    """A set of ten prompts in three shards, which say whose samples they hold."""
    place = write_set(tmp_path / "set")
    data = CollectedSet(place)
    for shard in range(data.layout.shards):
        ids = torch.tensor([data.prompts[p].id for p in data.layout.prompts_of(shard)]).repeat_interleave(4)
        write_shard(place, shard, {**load_file(shard_path(place, shard)), "prompt": ids})
    return place


def test_a_whole_set_is_read(folder: Path) -> None:
    assert CollectedSet(folder).gather("hidden_7", range(40)).shape == (40, 4, 48)


def test_exchanged_shards_are_noticed(folder: Path) -> None:
    first, second = shard_path(folder, 0), shard_path(folder, 1)
    first.rename(folder / "third")
    second.rename(first)
    (folder / "third").rename(second)
    with pytest.raises(ConfigError, match=r"shard_00000.safetensors: has the samples of other prompts than the index"):
        CollectedSet(folder).gather("hidden_7", [0])


@pytest.mark.parametrize("shape", [(4, 1), (1, 48)])
def test_features_that_would_broadcast_are_refused(folder: Path, shape: tuple[int, int]) -> None:
    tensors = load_file(shard_path(folder, 0))
    write_shard(folder, 0, {**tensors, "hidden_7": tensors["hidden_7"][:, : shape[0], : shape[1]]})
    with pytest.raises(ConfigError, match=rf"shard_00000.*: hidden_7 is \({shape[0]}, {shape[1]}\), the index says"):
        CollectedSet(folder).gather("hidden_7", [0])


def test_a_feature_that_is_not_finite_names_its_sample_whoever_reads_it(folder: Path) -> None:
    tensors = load_file(shard_path(folder, 1))
    tensors["hidden_7"][2, 1, 1] = float("nan")
    write_shard(folder, 1, tensors)
    with pytest.raises(ConfigError, match=r"prompt 00104 candidate 2: hidden_7 is NaN or infinite; collect this set"):
        CollectedSet(folder).gather("hidden_7", range(10, 20))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_one_value_that_is_not_finite_is_found_among_large_ones(dtype: torch.dtype, value: float) -> None:
    values = torch.full((3, 40, 30), 30_000.0, dtype=dtype)  # in float16 no more than two of them can be added
    assert finite_rows(values).tolist() == [True] * 3
    values[1, 17, 5] = value
    assert finite_rows(values).tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt_id": 100.0}, r"labels.jsonl:1: prompt_id is 100.0; int is needed"),
        ({"prompt_id": True}, r"labels.jsonl:1: prompt_id is True; int is needed"),
        ({"candidate": False}, r"labels.jsonl:1: candidate is False; int is needed"),
        ({"correct": 1}, r"labels.jsonl:1: correct is 1; bool is needed"),
        ({"correct": 0.5}, r"labels.jsonl:1: correct is 0.5; bool is needed"),
        ({"candidate": 1}, r"labels.jsonl:2: .* candidate 1 was already given another correct"),
    ],
)
def test_labels_of_other_types_and_contradictions(folder: Path, change: dict, message: str) -> None:
    first, *rest = (folder / "labels.jsonl").read_text().splitlines()
    (folder / "labels.jsonl").write_text("\n".join([json.dumps(json.loads(first) | change), *rest]))
    with pytest.raises(ConfigError, match=message):
        read_labels(CollectedSet(folder))


def test_a_key_twice_in_a_label(folder: Path) -> None:
    (folder / "labels.jsonl").write_text('{"prompt_id": 100, "candidate": 0, "correct": true, "correct": false}')
    with pytest.raises(ConfigError, match=r'labels.jsonl:1: the object has the key "correct" twice; remove one of'):
        read_labels(CollectedSet(folder))


def test_further_verdicts_may_not_contradict_each_other_or_the_labels(folder: Path, config) -> None:
    data = CollectedSet(folder)
    row = {"prompt_id": 100, "candidate": 0, "prompt": "a dog", "correct": True}
    (folder / "more.jsonl").write_text("".join(json.dumps(row | {"correct": c}) + "\n" for c in (True, True, False)))
    with pytest.raises(ConfigError, match=r"more.jsonl:3: .*candidate 0 was already given another verdict on 'a dog'"):
        read_more_labels(data, "more.jsonl")
    row |= {"prompt": data.prompt(0).text, "correct": not read_labels(data)[0]}
    (folder / "more.jsonl").write_text(json.dumps(row))
    keys = config(data=[str(folder)], more_labels="more.jsonl", eval_fraction=0)
    with pytest.raises(ConfigError, match=r"candidate 0 has another verdict on its own prompt than in labels.jsonl"):
        load_data(keys, load_tokenizer(Path(keys.init)))


@pytest.mark.parametrize("weights", [[0, 1], [0.37, -0.63], [0.0, 0.0]])
def test_weights_of_the_loss_are_above_zero(weights: list[float]) -> None:
    with pytest.raises(ConfigError, match=r"weights"):
        build(TrainConfig, {"stage": "finetune", "name": "a", "data": ["x"], "init": "y", "weights": weights})


def test_outputs_go_into_the_home_folder_that_a_tilde_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from vhs.training.data.normalization import statistics_paths
    from vhs.training.data.tasks import CollectConfig

    monkeypatch.setenv("HOME", str(tmp_path))
    train = TrainConfig(stage="align", name="a", data=["x"], init="y", output_path="~/out")
    collect = CollectConfig(run="a", annotation="b", output="~/set")
    assert train.folder == tmp_path / "out" / "a" and collect.folder == tmp_path / "set"
    assert statistics_paths("~/s", "hidden_7")[0].parent == tmp_path / "s"


@pytest.mark.parametrize("change", [{"prompt": 3}, {"prompt": ["a cat"]}, {"id": "x"}, {"id": True}])
def test_a_prompt_of_another_type_names_its_line(folder: Path, change: dict) -> None:
    file = folder / "prompts.jsonl"
    first, *rest = file.read_text().splitlines()
    file.write_text("\n".join([json.dumps({**json.loads(first), **change}), *rest]) + "\n")
    with pytest.raises(ConfigError, match=r"prompts.jsonl: line 1: id is a number and prompt a text; got "):
        CollectedSet(folder)
