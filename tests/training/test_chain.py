"""The configurations for SANA-Sprint fit together: what a stage reads, an earlier one writes under that very name."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from vhs.config.yamlfile import load
from vhs.errors import ConfigError
from vhs.pictures import encode
from vhs.records import Prompt
from vhs.training.commands import run_evaluate, run_train
from vhs.training.config import EvaluateConfig, TrainConfig
from vhs.training.data.commands import run_collect, run_normalize
from vhs.training.data.label_commands import run_label
from vhs.training.data.layout import Layout
from vhs.training.data.normalization import statistics_of, statistics_paths
from vhs.training.data.store import begin, write_shard
from vhs.training.data.tasks import CollectConfig, NormalizeConfig, load_label_config

CONFIGS = Path(__file__).parents[2] / "configs" / "train"


def config(kind: type, name: str):
    return load(kind, CONFIGS / f"{name}.yaml")


def task(name: str):
    return load_label_config(CONFIGS / f"{name}.yaml")


@pytest.mark.parametrize("language_model", ["qwen2.5_0.5b", "qwen2_1.5b", "qwen3_0.6b"])
def test_every_file_of_the_chain_is_written_before_it_is_read(language_model):
    assert task("metadata_gemma").annotation == task("prompts_reflect_dit").output
    candidates = config(CollectConfig, "collect_sana_sprint")
    assert candidates.annotation == task("metadata_gemma").output and candidates.require_records
    assert task("label_sana_sprint").data == [candidates.output]
    pairs = config(CollectConfig, "collect_align_sana_sprint")
    refined = task("refine_llava_gemma")
    assert refined.annotation == task("prompts_llava").output
    assert pairs.annotation == refined.output and not pairs.require_records
    assert task("caption_gemma").data == task("clip_score").data == [pairs.output]
    assert task("clip_score").captions == task("caption_gemma").output

    align, tune = (config(TrainConfig, f"{stage}_{language_model}_hidden_7") for stage in ("align", "finetune"))
    assert align.data == [pairs.output] and align.captions == task("caption_gemma").output
    assert tune.data == [candidates.output] and tune.labels == task("label_sana_sprint").output
    assert Path(tune.init) == align.folder / "checkpoint"
    for training, kept in ((align, pairs), (tune, candidates)):
        assert training.feature in [f"hidden_{block}" for block in kept.blocks]

    statistics = config(NormalizeConfig, "normalize_sana_sprint")
    assert statistics.data == [pairs.output] and statistics.samples == 50_000
    paths = statistics_paths(statistics.output, statistics.feature)
    for training in (align, tune):
        assert statistics_of(training, training.feature) == paths and training.feature == statistics.feature


@pytest.mark.parametrize("row", ["hidden_1", "hidden_5", "hidden_9", "hidden_19", "latent", "clip"])
def test_an_ablation_at_full_size_differs_from_the_reference_in_its_input(row):
    align, tune = (config(TrainConfig, f"{stage}_qwen2.5_0.5b_{row}") for stage in ("align", "finetune"))
    reference = config(TrainConfig, "finetune_qwen2.5_0.5b_hidden_7")
    assert Path(tune.init) == align.folder / "checkpoint" and align.feature == tune.feature == row
    assert statistics_of(align, row) == statistics_of(tune, row) and bool(statistics_of(align, row)) == ("_" in row)
    same = ("loss", "weights", "epochs", "batch_size", "learning_rate", "eval_fraction", "seed", "precision")
    assert all(getattr(tune, key) == getattr(reference, key) for key in same)
    if row == "clip":
        kept = [config(CollectConfig, f"collect_{part}sana_sprint_clip") for part in ("align_", "")]
        assert [align.data, tune.data] == [[one.output] for one in kept] and {one.clip for one in kept} == {
            tune.vision_tower
        }
        assert (Path(tune.data[0]) / tune.labels).resolve() == (Path(reference.data[0]) / reference.labels).resolve()
        return
    made = load(CollectConfig, align.data[0].generate, align.data[0].overrides)
    assert row in {"latent" if made.latent else "", *(f"hidden_{block}" for block in made.blocks)}
    assert tune.data == reference.data and made.output == config(CollectConfig, "collect_align_sana_sprint").output
    if row != "latent":
        statistics = config(NormalizeConfig, f"normalize_sana_sprint_block_{row.removeprefix('hidden_')}")
        assert statistics_paths(statistics.output, statistics.feature) == statistics_of(tune, row)
        assert statistics.data == align.data and statistics.samples == 50_000


@pytest.mark.parametrize("loss", ["cross_entropy", "focal"])
def test_an_ablation_of_the_loss_differs_in_nothing_else(loss):
    reference = config(TrainConfig, "finetune_qwen2.5_0.5b_hidden_7").model_dump()
    row = config(TrainConfig, f"finetune_qwen2.5_0.5b_hidden_7_{loss}").model_dump()
    assert {key for key in row if row[key] != reference[key]} == {"name", "loss"}


def test_nothing_is_collected_for_verdicts_of_prompts_without_records(tmp_path, run_keys, config_file):
    (tmp_path / "prompts.txt").write_text("a photo of a bench\na cat dreaming\n")
    collect = CollectConfig(
        run=str(config_file(run_keys)), annotation=str(tmp_path / "prompts.txt"), output=str(tmp_path / "set"),
        pictures="png", require_records=True,
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"2 of 2 prompts have no GenEval record, first 'a photo of a bench'; write"):
        run_collect(collect, print)
    assert not (tmp_path / "set").exists()
    with pytest.raises(ConfigError, match="require_records: verdicts are made from pictures; add pictures: png or jpg"):
        load(CollectConfig, CONFIGS / "collect_tiny.yaml", ["pictures=null"])


def test_a_set_in_which_nothing_can_be_judged_is_refused_before_the_judge_is_loaded(tmp_path):
    prompts = [Prompt(0, "a cat dreaming", None), Prompt(1, "a dog", None)]
    begin(tmp_path / "set", Layout({}, "float32", 2, 1, 2, "png"), prompts)
    pictures = [encode(Image.new("RGB", (8, 8)), "png") for _ in prompts]
    write_shard(tmp_path / "set", 0, {"prompt": torch.arange(2)}, pictures)
    (tmp_path / "label.yaml").write_text(f"task: verdicts\ndata: [{tmp_path / 'set'}]\njudge: no/such.yaml\n")
    with pytest.raises(ConfigError, match="GenEval can judge none of its 2 prompts, since they have no record"):
        run_label(load_label_config(tmp_path / "label.yaml"), print)


def test_the_chain_ends_in_a_verifier(tmp_path, monkeypatch, run_keys, judge_keys, language_model):
    """Every shipped configuration in its order, with sizes and models overridden: golden D's generator, a small
    language model, rules in the place of Gemma, and a random detector, whose verdicts are replaced."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({**run_keys, **judge_keys}))
    (tmp_path / "data" / "reflect_dit").mkdir(parents=True)
    (tmp_path / "data" / "llava").mkdir()
    prompts = ["a photo of a ring", "a photo of a star", "a photo of a moon", "a photo of two circles"]
    table = "".join(f"x,{prompt}\n" for prompt in prompts)
    (tmp_path / task("prompts_reflect_dit").source).write_text(f"filename,prompt\n{table}")
    pairs = [{"conversations": [{"from": "gpt", "value": text}]} for text in ("a red ring", "a blue star", "two moons")]
    (tmp_path / task("prompts_llava").source).write_text(json.dumps(pairs))

    def label(name: str, *overrides: str):
        return run_label(load_label_config(CONFIGS / f"{name}.yaml", overrides), print)

    def train(stage: str, *overrides: str):
        sizes = ("batch_size=2", "micro_batch=2", "eval_fraction=0", "precision=float32", "max_steps=2", *overrides)
        return run_train(load(TrainConfig, CONFIGS / f"{stage}_qwen2.5_0.5b_hidden_7.yaml", sizes), print)

    small = ("run=run.yaml", "dtype=float32", "reserve_gib=0")
    label("prompts_llava")
    assert label("refine_llava_gemma", f"model={language_model}", "device=cpu", "max_tokens=2").count == 3
    run_collect(load(CollectConfig, CONFIGS / "collect_align_sana_sprint.yaml", small), print)
    label("caption_gemma", "backend=detector", "judge=run.yaml", "min_score=0")
    assert run_normalize(config(NormalizeConfig, "normalize_sana_sprint"), print).count == 3 * 64
    train("align", f"init={language_model}")
    label("prompts_reflect_dit")
    names = judge_keys["object_names"]
    assert label("metadata_gemma", "backend=rules", f"object_names={names}").by_rules == 4
    kept = ("candidates=4", "blocks=[1, 7]")
    candidates = load(CollectConfig, CONFIGS / "collect_sana_sprint.yaml", (*small, *kept))
    assert run_collect(candidates, print).samples == 16
    assert label("label_sana_sprint", "judge=run.yaml").unjudged == 0
    labels = tmp_path / candidates.output / "labels.jsonl"
    rows = [json.loads(line) for line in labels.read_text().splitlines()]
    labels.write_text("".join(json.dumps(row | {"correct": row["candidate"] % 2 == 0}) + "\n" for row in rows))
    verifier = train("finetune").checkpoint
    keys = {
        key: getattr(config(TrainConfig, "finetune_qwen2.5_0.5b_hidden_7"), key)
        for key in ("data", "feature", "normalization")
    }
    done = run_evaluate(EvaluateConfig(verifier=str(verifier), output="found.json", best_of=[1, 4], **keys), print)
    assert done.figures["candidates"] == 16 and (tmp_path / "found.json").exists()
    assert any(verifier.parent.rglob("events.out.tfevents*"))
