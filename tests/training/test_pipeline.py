"""A pipeline runs what is missing and nothing else; its plan says what it would cost without loading anything."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vhs.commands import main
from vhs.config.keys import StatisticsKeys
from vhs.config.yamlfile import load
from vhs.errors import ConfigError, RunError
from vhs.training.data.normalization import statistics_of
from vhs.training.data.tasks import CollectConfig
from vhs.training.pipeline import load_pipeline, run_pipeline
from vhs.training.plan import costs, describe, downloads, own_files

CONFIGS = Path(__file__).parents[2] / "configs" / "train"
SMALL = [
    "collect.limit=12", "collect.candidates=4", "collect_test.limit=6", "collect_test.candidates=4",
    "align.batch_size=16", "align.max_steps=2", "align.eval_fraction=0.2",
    "finetune.batch_size=16", "finetune.max_steps=2", "finetune.eval_fraction=0.2", "evaluate.best_of=[1, 4]",
    "align.precision=float32", "finetune.precision=float32",
]  # fmt: skip


def tiny(*overrides: str):
    return load_pipeline(CONFIGS / "tiny.yaml", [*SMALL, *overrides])


def run(*overrides: str) -> tuple[list[str], str]:
    """What was said, and the closing line."""
    said = []
    config, steps = tiny(*overrides)
    return said, run_pipeline(config, steps, said.append).line()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which the tiny chain was run with few samples, and what it said."""
    folder = tmp_path_factory.mktemp("chain")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        said, line = run()
    return folder, said, line


@pytest.fixture
def chain(finished, tmp_path, monkeypatch):
    """A copy of that folder, as the working directory."""
    shutil.copytree(finished[0], tmp_path / "chain")
    monkeypatch.chdir(tmp_path / "chain")
    return tmp_path / "chain" / "outputs" / "training"


def test_the_tiny_chain_ends_in_figures_of_a_verifier(finished):
    folder, said, line = finished
    assert line.startswith("11 stages run, 0 were done")
    figures = json.loads((folder / "outputs/training/evaluation.json").read_text())
    assert figures["candidates"] == 24 and len(figures["best_of"]) == 2
    used = json.loads((folder / "outputs/training/finetune_tiny/train.json").read_text())["config"]
    assert used["normalization_mean_path"] == "outputs/training/normalization/block_7_mean_bf16.pt", "its own"
    record = json.loads((folder / "outputs/training/tiny.json").read_text())
    assert list(record) == [stage.name for stage in tiny()[0].stages]
    assert record["collect"]["items"] == 48 and record["collect"]["rate"] > 0
    assert any(text.startswith("2/11 collect: to make: all") for text in said)


def test_what_is_done_is_left_and_what_is_missing_is_made(chain):
    trained = (chain / "finetune_tiny" / "train.json").stat().st_mtime_ns
    (chain / "evaluation.json").unlink()
    (chain / "test" / "shards" / "shard_00000.safetensors").unlink()
    said, line = run()
    assert line.startswith("2 stages run, 9 were done") and "9/11 collect_test: to make: 1 of 1 shards" in said
    assert (chain / "evaluation.json").exists()
    assert (chain / "finetune_tiny" / "train.json").stat().st_mtime_ns == trained


def test_a_stage_that_was_done_with_other_keys_is_refused(chain):
    (chain / "evaluation.json").unlink()
    with pytest.raises(RunError, match=r"align_tiny: made by another training \(learning_rate: 0.004, now 0.1\)"):
        run("align.learning_rate=0.1")
    assert not (chain / "evaluation.json").exists()


def test_a_plan_of_the_papers_size_needs_nothing_but_the_files(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    _, steps = load_pipeline(CONFIGS / "sana_sprint_hidden_7.yaml")
    rows = {row.name: row for row in costs(steps, {})}
    assert rows["collect_align"].items == 558128 and rows["collect"].items == 5900 * 20
    feature = 1024 * 2240 * 2
    assert feature * 118_000 < rows["collect"].bytes < 1.2 * feature * 118_000
    assert rows["finetune"].items == 10 * 118_000 and rows["statistics"].items == 50_000
    assert rows["collect_align"].bytes < 300e9, "pictures alone"
    assert rows["collect_align"].hours == pytest.approx(558128 / 30 / 3600) and not rows["collect_align"].measured
    assert rows["captions"].hours is None
    faster = {row.name: row for row in costs(steps, {}, {"captions": {"rate": 10.0}})}
    assert faster["captions"].hours == pytest.approx(558128 / 10 / 3600) and faster["captions"].measured
    named = {source.repository for source in downloads(steps)}
    assert {"google/gemma-3-4b-it", "Qwen/Qwen2.5-0.5B-Instruct"} < named and len(own_files(steps)) == 2
    assert "no rate, or not known how many: refine_prompts, captions," in describe(steps, {})
    assert main(["pipeline", "--config", str(CONFIGS / "sana_sprint_hidden_7.yaml"), "--plan"]) == 0
    assert "bring: data/llava/blip_laion_cc_sbu_558k.json" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_a_plan_counts_from_a_file_of_prompts_that_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.txt").write_text("a photo of a star\na photo of two rings\na photo of a moon\n")
    (tmp_path / "rules.yaml").write_text("task: metadata\nannotation: mine.txt\noutput: records.json\n")
    own = "annotation: records.json\noutput: set\ncandidates: 4\n"
    (tmp_path / "collect.yaml").write_text(f"base: {CONFIGS / 'collect_tiny.yaml'}\n{own}")
    stages = [
        "{name: records, command: label, config: rules.yaml}",
        "{name: set, command: collect, config: collect.yaml}",
    ]
    (tmp_path / "p.yaml").write_text("record: r.json\nstages:\n" + "".join(f"  - {stage}\n" for stage in stages))
    _, steps = load_pipeline(tmp_path / "p.yaml")
    assert [row.items for row in costs(steps, {})] == [3, 12]


@pytest.mark.parametrize("name", ["sana_sprint_hidden_7", "tiny"])
def test_every_stage_reads_what_an_earlier_one_writes(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, steps = load_pipeline(CONFIGS / f"{name}.yaml")
    made: set[str] = set()
    for step in steps:
        read = [] if step.config is None else inputs(step.config)
        missing = [path for path in read if str(path).startswith("outputs/") and path not in made]
        assert not missing, f"{step.stage.name} reads {missing}"
        made |= {str(path) for path in step.outputs}
        if step.config is not None:
            made |= {step.config.output} if hasattr(step.config, "output") else {f"{step.config.folder}/checkpoint"}


def collected(named) -> str:
    """The folder of a set; of one whose features are made beside the stage, where its captions are."""
    return named if isinstance(named, str) else load(CollectConfig, named.generate, named.overrides).output


def inputs(config) -> list[str]:
    named = [getattr(config, key) for key in ("annotation", "init", "verifier") if getattr(config, key, None)]
    if isinstance(config, StatisticsKeys):
        named += map(str, statistics_of(config, config.feature))
    files = [getattr(config, key) for key in ("labels", "captions") if getattr(config, key, None)]
    sets = [collected(one) for one in getattr(config, "data", [])]
    if getattr(config, "stage", "") in ("align", "finetune"):
        files = [config.captions if config.stage == "align" else config.labels]
    return [*named, *sets, *(f"{folder}/{file}" for folder in sets for file in files)]


def test_a_mistake_in_a_pipeline_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match="no stage 'colect'; did you mean collect"):
        tiny("colect.limit=3")
    with pytest.raises(ConfigError, match="stage prompts is a module, which has no keys: 'limit=3'"):
        tiny("prompts.limit=3")
    with pytest.raises(ConfigError, match="command line: limits: unknown key; did you mean limit"):
        tiny("collect.limits=3")
    (tmp_path / "p.yaml").write_text("record: r.json\nstages:\n  - {name: a, command: train}\n")
    with pytest.raises(ConfigError, match="missing in stage a; command: train needs it"):
        load_pipeline(tmp_path / "p.yaml")
    twice = "  - {name: a, command: evaluate, config: evaluate_tiny.yaml}\n"
    (tmp_path / "p.yaml").write_text(f"record: r.json\nstages:\n{twice}{twice}")
    with pytest.raises(ConfigError, match="a is the name of two stages"):
        load_pipeline(tmp_path / "p.yaml")


@pytest.mark.slow
def test_two_processes_share_the_stages(tmp_path, finished):
    """What one process made alone, two make together: statistics and figures are as close as sums in another order."""
    root = Path(__file__).parents[2]
    script = [str(root / "verifier_scripts/pipeline.py"), "--config", str(CONFIGS / "tiny.yaml"), *SMALL]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", *script],
        cwd=tmp_path,
        env={**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("11 stages run, 0 were done")
    ours, theirs = (folder / "outputs/training" for folder in (tmp_path, finished[0]))
    record = json.loads((ours / "tiny.json").read_text())
    assert record["collect"]["processes"] == 2 and record["prompts"]["processes"] == 1
    for name in ("candidates/labels.jsonl", "candidates/captions.jsonl", "test/labels.jsonl"):
        assert (ours / name).read_text() == (theirs / name).read_text()
    found, expected = (json.loads((one / "evaluation.json").read_text()) for one in (ours, theirs))
    assert found["candidates"] == expected["candidates"]
    assert found["accuracy"] == pytest.approx(expected["accuracy"], abs=0.1)
