"""A verifier of several blocks, from collecting to a run: its scores are those of its training."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from vhs.best_of_n import BestOfN
from vhs.config.run import RunConfig, load_config
from vhs.config.yamlfile import load
from vhs.errors import CheckpointError, ConfigError
from vhs.paths import PROJECT
from vhs.prompts import read_prompts
from vhs.records import Prompt
from vhs.resolve import resolve_models
from vhs.training.commands import run_train
from vhs.training.config import Generated, TrainConfig
from vhs.training.data.commands import run_collect, run_normalize
from vhs.training.data.generated import open_source
from vhs.training.data.layout import Layout
from vhs.training.data.store import CollectedSet, begin, write_shard
from vhs.training.data.tasks import CollectConfig, NormalizeConfig
from vhs.training.evaluation import score_sets
from vhs.verifiers.load import load_verifier, resolve_llava

CONFIGS = PROJECT / "configs" / "train"
FEATURE = "feature=[hidden_7, hidden_5]"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Candidates of the tiny generator with both blocks, verdicts, statistics, and a verifier of both blocks."""
    folder = tmp_path_factory.mktemp("blocks")
    (folder / "prompts.txt").write_text("".join(f"a photo of a {c} star\n" for c in ["red", "blue", "green", "pink"]))
    run_collect(load(CollectConfig, CONFIGS / "collect_tiny.yaml", collecting(folder)), print)
    rows = [{"prompt_id": p, "candidate": c, "correct": bool((p + c) % 2)} for p in range(4) for c in range(3)]
    (folder / "set" / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run_normalize(normalizing(folder, ["hidden_5", "hidden_7"], "normalization"), print)
    run_train(training(folder), print)
    return folder


def collecting(folder: Path) -> list[str]:
    return [
        f"annotation={folder / 'prompts.txt'}", f"output={folder / 'set'}", "candidates=3", "blocks=[5,7]",
        "pictures=null", "require_records=false", "dtype=float32",
    ]  # fmt: skip


def normalizing(folder: Path, feature: list[str], output: str) -> NormalizeConfig:
    return NormalizeConfig(data=[str(folder / "set")], feature=feature, output=str(folder / output))


def training(folder: Path, *changes: str) -> TrainConfig:
    keys = [
        "name=both", f"output_path={folder}", f"data=[{folder / 'set'}]", FEATURE, "init=ckpts/tiny/language_model",
        "normalization_mean_path=null", "normalization_variance_path=null", f"normalization={folder / 'normalization'}",
        "batch_size=6", "micro_batch=6", "eval_fraction=0", "epochs=2", "precision=float32", "save_dtype=float32",
    ]  # fmt: skip
    return load(TrainConfig, CONFIGS / "finetune_tiny.yaml", [*keys, *changes])


def test_statistics_of_both_blocks_are_each_one_s_own(made):
    run_normalize(normalizing(made, ["hidden_7"], "alone"), print)
    before = (made / "alone" / "block_7_mean_bf16.pt").stat().st_mtime_ns
    found = run_normalize(normalizing(made, ["hidden_5", "hidden_7"], "alone"), print)
    assert [path.exists() for path in found.paths] == [True] * 4, "what was measured alone is left as it is"
    assert (made / "alone" / "block_7_mean_bf16.pt").stat().st_mtime_ns == before
    assert sorted(file.name for file in (made / "normalization").glob("*.pt")) == [
        f"block_{block}_{moment}_bf16.pt" for block in (5, 7) for moment in ("mean", "variance")
    ]
    for name in ("block_5_mean_bf16.pt", "block_7_mean_bf16.pt"):
        assert torch.equal(torch.load(made / "normalization" / name), torch.load(made / "alone" / name))
    reads = json.loads((made / "both" / "train.json").read_text())["reads"]
    assert {"normalization_mean_path of block 5", "normalization_variance_path of block 7"} < reads.keys()


def test_the_checkpoint_says_what_it_reads(made):
    raw = json.loads((made / "both" / "checkpoint" / "config.json").read_text())
    assert (raw["mm_vision_tower"], raw["mm_vision_select_feature"]) == ("hidden", "block_5+7")
    assert raw["hidden_dim"] == raw["mm_hidden_size"] == 2 * 96
    assert raw["vhs_generator"]["block"] == ["transformer_blocks.5", "transformer_blocks.7"]
    assert raw["vhs_generator"]["width"] == 96


@pytest.mark.parametrize("mode", ["prod", "dev"])
def test_a_run_scores_as_training_did(made, mode):
    checkpoint = made / "both" / "checkpoint"
    entry = {"latent_verifier_path": str(checkpoint), "vision_tower": "hidden_5+7"}
    (made / "mine.py").write_text(f"LATENT_VERIFIER = {{'both': {entry}}}")
    keys = {"registry": str(made / "mine.py"), "latent_verifier_name": "both", "num_samples": 3, "seed": 1}
    keys |= {"normalization": str(made / "normalization"), "generation_mode": mode}
    config = load_config(PROJECT / "configs" / "tiny.yaml", keys)
    recorded = resolve_models(config).verifiers["verifier"]
    assert recorded == {"kind": "llava", "reads": "hidden", "block": 7, "blocks": [5, 7]}
    method = BestOfN.from_config(config, {"generation_mode": mode})
    data, passes = CollectedSet(made / "set"), []
    own = load_verifier(checkpoint, normalization=made / "normalization", use_generation_prompt=False)
    rows = score_sets(own, [data], "hidden_5+7")
    blocks = method.generator.transformer.transformer_blocks
    blocks[8].register_forward_hook(lambda module, inputs, output: passes.append(len(output)))
    for prompt in read_prompts(made / "prompts.txt"):
        result = method(prompt)
        expected = rows.scores[3 * prompt.id : 3 * prompt.id + 3]
        assert result.scores == pytest.approx(list(expected), abs=1e-4)
        assert result.best_index == max(range(3), key=lambda index: expected[index])
    assert passes == ([1] * 4 if mode == "prod" else [3] * 4), "the pass of those that lose ends at block 7"
    assert len(set(rows.scores.round(6))) > 6


def test_features_made_beside_the_training_are_the_stored_ones(made):
    source = open_source(Generated(generate=str(CONFIGS / "collect_tiny.yaml"), overrides=collecting(made)))
    stored = CollectedSet(made / "set")
    found = source.gather("hidden_5+7", [0, 4, 11])
    assert found.shape == (3, *source.require("hidden_5+7")) == (3, 64, 192)
    torch.testing.assert_close(found, stored.gather("hidden_5+7", [0, 4, 11]), rtol=0, atol=1e-4)
    assert torch.equal(stored.gather("hidden_5+7", [4])[..., 96:], stored.gather("hidden_7", [4]))


def test_costs_are_counted_to_the_last_block(made):
    from vhs.measure.counted import count_prompt
    from vhs.measure.random_models import random_generator, random_verifier

    config = load_config(PROJECT / "configs" / "tiny.yaml")
    generator = random_generator(config, "meta", "float32")
    architecture = str(PROJECT / "ckpts" / "tiny" / "verifier_hidden_7" / "config.json")
    counts = {}
    for reads in ("hidden_7", "hidden_5+7"):
        verifier = random_verifier(reads, architecture, None, generator.info, 8)
        counts[reads] = {stage.name: sum(stage.flops.values()) for stage in count_prompt(generator, verifier, 8)}
    one, both = counts.values()
    assert both["prefix"] == one["prefix"] and both["suffix"] == one["suffix"]
    assert both["score"] - one["score"] == 2 * 8 * 64 * 96 * 128, "the connector's first layer is wider"


def test_contradictions_are_one_line(made, tmp_path):
    with pytest.raises(ConfigError, match=r"set: no feature 'hidden_9'; there is hidden_5, hidden_7$"):
        run_train(training(made, "feature=[hidden_7, hidden_9]", "name=other"), print)
    for feature in ("[hidden_5, latent]", "[hidden_5, hidden_5]", "[]"):
        with pytest.raises(ConfigError, match="feature: .*hidden states of different blocks, as in .* side by side"):
            training(made, f"feature={feature}")
    files = [made / "normalization" / f"block_7_{moment}_bf16.pt" for moment in ("mean", "variance")]
    named = [f"normalization_{moment}_path={file}" for moment, file in zip(("mean", "variance"), files, strict=True)]
    with pytest.raises(ConfigError, match="one file, but hidden_5\\+7 reads 2 blocks; give the folder"):
        run_train(training(made, "normalization=null", *named, "name=other"), print)
    with pytest.raises(ConfigError, match="one file, but hidden_5\\+7 reads 2 blocks; give the folder"):
        resolve_llava(made / "both" / "checkpoint", None, *files)
    with pytest.raises(CheckpointError, match="names block 7, but .* was trained on block 5\\+7; write hidden_5\\+7"):
        resolve_llava(made / "both" / "checkpoint", "hidden_7")
    with pytest.raises(CheckpointError, match="names block 7, but .* was trained on block 5"):
        run_train(training(made, "feature=hidden_7", "name=other", f"init={made / 'both' / 'checkpoint'}"), print)
    layout = Layout({"hidden_5": (4, 8), "hidden_7": (4, 6)}, "float32", 1, 1, 1)
    begin(tmp_path / "set", layout, [Prompt(0, "a star")])
    write_shard(tmp_path / "set", 0, {"hidden_5": torch.zeros(1, 4, 8), "hidden_7": torch.zeros(1, 4, 6)})
    with pytest.raises(ConfigError, match=r"hidden_5 is \(4, 8\), hidden_7 is \(4, 6\); blocks of one shape"):
        CollectedSet(tmp_path / "set").require("hidden_5+7")


def running(made: Path, **keys) -> RunConfig:
    own = {"latent_verifier_path": str(made / "both" / "checkpoint"), "normalization": str(made / "normalization")}
    return load_config(PROJECT / "configs" / "tiny.yaml", {"num_samples": 2} | own | keys)


def test_a_path_in_the_run_is_read_as_its_checkpoint_says(made):
    spec = resolve_models(running(made)).verifier
    assert spec.blocks == (5, 7), "and not the block of the entry that tiny.yaml names"
    with pytest.raises(CheckpointError, match=r"names block 7, but .* was trained on block 5\+7; write hidden_5\+7"):
        resolve_models(running(made, vision_tower="hidden_7"))
    with pytest.raises(ConfigError, match="folder is given as latent_verifier_path: "):
        resolve_models(running(made, latent_verifier_path=None, latent_verifier_name=str(made / "both" / "checkpoint")))


def test_a_run_repeats_the_inputs_of_training(made, caplog):
    record = json.loads((made / "both" / "checkpoint" / "config.json").read_text())["vhs_input"]
    assert record.keys() == {"use_generation_prompt", "statistics"} and len(record["statistics"]) == 64
    assert resolve_models(running(made, use_generation_prompt=None)).verifier.generation_prompt is False
    with pytest.raises(ConfigError, match="use_generation_prompt: True, but .* was trained with False"):
        resolve_models(running(made, use_generation_prompt=True))
    with pytest.raises(ConfigError, match="normalization: absent, but .* was trained on normalised hidden states"):
        resolve_models(running(made, normalization=None))
    resolve_models(running(made)).load_verifier()
    assert not caplog.records
    shutil.copytree(made / "normalization", made / "others")
    torch.save(torch.zeros(1, 96), made / "others" / "block_5_mean_bf16.pt")
    resolve_models(running(made, normalization=str(made / "others"))).load_verifier()
    assert "was trained with other statistics than this run's" in caplog.text


def test_the_vocabulary_of_one_s_own_verifier_stays_as_it_was_trained(made):
    published = "sana_hidden-7-Qwen2.5-0.5B-mlp-train-val-best-CEfocal-loss-alpha-0.37-gamma-0.0"
    assert not resolve_models(running(made, latent_verifier_name=published)).verifier.resize_vocabulary
    asked = running(made, latent_verifier_name=published, resize_vocabulary=True)
    assert resolve_models(asked).verifier.resize_vocabulary
