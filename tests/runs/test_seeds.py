"""A run over several seeds: ordinary runs, byte for byte, in one folder, and a summary over them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.runs.report_runs import make_run
from vhs.config.run import RunConfig
from vhs.config.yamlfile import build
from vhs.errors import ConfigError, RunError
from vhs.files import read_json, write_json
from vhs.runs import runner, seeds
from vhs.runs.compare import compare
from vhs.runs.report.data import read_run, run_folders
from vhs.runs.report.paired import OVER_PROMPTS, OVER_TAGS, System, over_seeds


def contents(root: Path) -> dict[str, bytes]:
    """A run's files by name, but what says when and where it ran."""
    ignored = ("timings.json", "run.json", "report.html")
    return {
        str(file.relative_to(root)): file.read_bytes()
        for file in root.rglob("*")
        if file.is_file() and file.name not in ignored
    }


def test_a_run_over_seeds_is_one_ordinary_run_per_seed(run_keys, tmp_path: Path) -> None:
    config = build(RunConfig, {**run_keys, "num_samples": 2, "seeds": [3, 5], "cont": True})
    said: list[str] = []
    closing = runner.run(config, say=said.append, bar=False)
    root = tmp_path / "out" / "small"
    assert run_folders(root) == [root / "small_seed_3", root / "small_seed_5"]
    assert closing.splitlines()[-1] == str(root / "summary.json")
    assert read_json(root / "summary.json")["seeds"] == [3, 5] and "small_seed_5" in said[-1]
    alone = config.changed(seeds=None, seed=5, name="small_seed_5", output_path=str(root), overwrite=True)
    before = contents(root / "small_seed_5")
    runner.run(alone, say=said.append, bar=False)
    assert contents(root / "small_seed_5") == before and read_run(root / "small_seed_5").config["seed"] == 5
    runner.run(config, say=said.append, bar=False)
    assert (
        f"{root / 'small_seed_3'}: already done; overwrite: true makes it again" in said
        and contents(root / "small_seed_5") == before
    )
    with pytest.raises(RunError, match=r"small: holds one run per seed; give one of them, such as .*small_seed_3"):
        read_run(root)


def test_an_interrupted_run_over_seeds_ends_in_the_same_bytes(run_keys, tmp_path: Path, monkeypatch) -> None:
    config = build(RunConfig, {**run_keys, "num_samples": 2, "seeds": [3, 5], "cont": True})
    runner.run(config.changed(name="whole"), say=lambda line: None, bar=False)
    written = runner.RunFolder.write_prompt

    def stop(folder, prompt, *rest):
        if folder.config.seed == 5 and prompt.id == 1:
            raise KeyboardInterrupt
        written(folder, prompt, *rest)

    monkeypatch.setattr(runner.RunFolder, "write_prompt", stop)
    with pytest.raises(KeyboardInterrupt):
        runner.run(config, say=lambda line: None, bar=False)
    monkeypatch.undo()
    runner.run(config, say=lambda line: None, bar=False)
    pictures = [f"{name}/{name}_seed_5/gen_eval_{name}_seed_5/00001/samples/best" for name in ("small", "whole")]
    found = [next((tmp_path / "out").glob(f"{start}_*")).read_bytes() for start in pictures]
    assert found[0] == found[1]


def test_rates_over_seeds_are_means_of_the_seeds_rates(tmp_path: Path) -> None:
    runs = [read_run(make_run(tmp_path, f"made_{seed}", 24, 4, seed=seed, skill=0.5)) for seed in (1, 2, 3)]
    found = over_seeds(System("made", runs))
    own = [
        np.array([run.table.rows[i][run.table.winners[i]]["correct"] for i in range(24)], dtype=float) for run in runs
    ]
    overall = found[OVER_PROMPTS]
    assert overall.by_seed == pytest.approx([verdicts.mean() for verdicts in own])
    assert overall.mean == pytest.approx(np.mean(own)) and overall.low < overall.mean < overall.high
    assert overall.deviation == pytest.approx(np.std([verdicts.mean() for verdicts in own], ddof=1))
    assert found["counting"].mean == pytest.approx(np.mean([verdicts[2::6].mean() for verdicts in own]))
    tags = [one.mean for name, one in found.items() if name not in (OVER_TAGS, OVER_PROMPTS)]
    assert found[OVER_TAGS].mean == pytest.approx(np.mean(tags)) and len(tags) == 6
    single = over_seeds(System("made", runs[:1]))
    assert single["counting"].deviation is None and len(single["counting"].by_seed) == 1


def test_a_tag_that_is_always_right_has_an_interval_all_the_same(tmp_path: Path) -> None:
    """Wilson's of its 4 prompts: seeds add nothing where they all agree."""
    runs = [read_run(make_run(tmp_path, f"made_{seed}", 24, 8, seed=seed, skill=9.0)) for seed in (1, 2)]
    found = over_seeds(System("made", runs))
    assert found["counting"].mean == 1 and found["counting"].high == pytest.approx(1)
    assert found["counting"].low == pytest.approx(4 / (4 + 1.959964**2))


def test_a_folder_of_seeds_stands_for_its_runs_in_a_comparison(tmp_path: Path) -> None:
    for name, skill in (("sharp", 0.8), ("blunt", 0.2)):
        for seed in (1, 2):
            make_run(tmp_path / name, f"{name}_seed_{seed}", 12, 4, seed=seed, skill=skill, vision_tower=name)
    assert compare([tmp_path / "sharp", tmp_path / "blunt"]).startswith("sharp (2 seeds), blunt (2 seeds): 12 prompts")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"seeds": [3, 4, 3]}, "seeds: 3 is given twice; each seed is one run"),
        ({"seeds": [1, 2], "imgs_path": "there"}, "seeds: pictures that are there already"),
        ({"seeds": []}, "seeds"),
        ({"seeds": [-1]}, "seeds"),
    ],
)
def test_seeds_that_cannot_be_are_one_line(run_keys, keys, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        build(RunConfig, {**run_keys, **keys})
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_seeds_with_a_time_budget_share_the_first_one_s_number_of_candidates(run_keys, tmp_path: Path) -> None:
    config = build(RunConfig, {**run_keys, "seeds": [1, 2], "budget_ms": 400.0})
    write_json(tmp_path / "out/small/small_seed_1/run.json", {"config": {"budget_ms": 400.0, "num_samples": 5}})
    first, second = seeds.runs_of(config)
    assert first.budget_ms == 400 and (second.num_samples, second.budget_ms) == (5, None)


def test_seeds_do_not_share_the_folder_of_a_run_of_one_seed(run_keys, tmp_path: Path) -> None:
    make_run(tmp_path / "out", "small", 6, 4)
    config = build(RunConfig, {**run_keys, "seeds": [1, 2]})
    with pytest.raises(RunError, match="small: holds a run of one seed, and seeds puts one folder per seed there"):
        seeds.require_own_folder(config)
