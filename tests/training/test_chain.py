"""The configurations for SANA-Sprint fit together: what a stage reads, an earlier one writes under that very name."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from vhs.commands import main
from vhs.config.yamlfile import load
from vhs.errors import ConfigError
from vhs.paths import PROJECT
from vhs.pictures import encode
from vhs.records import Prompt
from vhs.tinyworld.scenes import sample_prompts
from vhs.training.config import TrainConfig
from vhs.training.data.commands import run_collect
from vhs.training.data.label_commands import run_label
from vhs.training.data.layout import Layout, read_layout
from vhs.training.data.normalization import statistics_of, statistics_paths
from vhs.training.data.store import begin, write_shard
from vhs.training.data.tasks import CollectConfig, NormalizeConfig, load_label_config

CONFIGS = Path(__file__).parents[2] / "configs" / "train"
JUDGE = "configs/sana_sprint_clip_bo32.yaml"


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


OVERRIDES = [
    f"refine_prompts.model={PROJECT}/ckpts/tiny/language_model", "refine_prompts.device=cpu",
    "refine_prompts.max_tokens=2", "captions.backend=detector", f"captions.judge={JUDGE}",
    "records.backend=rules", "records.object_names=data/tiny_object_names.txt", "collect.candidates=3",
    "align.init=ckpts/tiny/language_model", "collect_test.annotation=data/tiny_prompts.json", "collect_test.limit=4",
    "collect_test.candidates=2", "evaluate.best_of=[1,2]",
    *(f"{stage}.reserve_gib=0" for stage in ("collect_align", "collect", "collect_test")),
    *(f"{stage}.{key}" for stage in ("align", "finetune")
      for key in ("batch_size=4", "micro_batch=4", "max_steps=2", "eval_fraction=0", "precision=float32")),
]  # fmt: skip


def test_the_pipeline_ends_in_a_verifier_s_figures(tmp_path, monkeypatch, capsys):
    """Every shipped stage under its own file names, from the published data files on, by a user in a folder of their
    own: the tiny world's models stand there under the names of SANA-Sprint's run files, and rules and the detector in
    the place of Gemma."""
    monkeypatch.chdir(tmp_path)
    for folder in ("configs", "data/reflect_dit", "data/llava"):
        (tmp_path / folder).mkdir(parents=True)
    for name in (JUDGE, "configs/sana_sprint_hidden_bo32.yaml"):
        (tmp_path / name).write_bytes((PROJECT / "configs" / "tiny.yaml").read_bytes())
    prompts = [record["prompt"] for record in sample_prompts(6, seed=5, split="train")]
    table = "".join(f"x,{prompt}\n" for prompt in prompts)
    (tmp_path / task("prompts_reflect_dit").source).write_text(f"filename,prompt\n{table}")
    pairs = [{"conversations": [{"from": "gpt", "value": prompt}]} for prompt in prompts]
    (tmp_path / task("prompts_llava").source).write_text(json.dumps(pairs))
    command = ["pipeline", "--config", "configs/train/sana_sprint_hidden_7.yaml", *OVERRIDES]
    assert main([*command, "--plan"]) == 0 and "download:" not in capsys.readouterr().out
    assert not (tmp_path / "outputs").exists()
    assert main(command) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1].startswith("14 stages run, 0 were done")
    figures = json.loads((tmp_path / "outputs/training/evaluation_sana_sprint.json").read_text())
    assert figures["candidates"] == 8 and [row["n"] for row in figures["best_of"]] == [1, 2]
    align = json.loads((tmp_path / "outputs/training/align_qwen2.5_0.5b_hidden_7/train.json").read_text())
    assert align["config"]["data"][0]["generate"].endswith("collect_align_sana_sprint.yaml"), "made beside it"
    assert read_layout(tmp_path / "outputs/training/sana_sprint_align").features == {}, "nothing was stored"
