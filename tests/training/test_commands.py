"""The commands as a user runs them: collect, normalise, train and judge in a row, and mistakes in one line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

ROOT = Path(__file__).parents[2]

NO_SET = "nowhere/index.json: is missing; a folder that collect.py finished is needed"


def command(name: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    script = str(ROOT / "verifier_scripts" / f"{name}.py")
    return subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, cwd=cwd, timeout=600)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("collect", "run: a\nannotation: b\noutput: c\nblock: [7]\n", "c.yaml:4: block: unknown key; did you mean"),
        (
            "normalize",
            "data: [nowhere]\noutput: x\n",
            NO_SET,
        ),
        ("label", "task: poems\n", "c.yaml:1: task: 'poems' is not a choice"),
        (
            "train",
            "stage: align\nname: a\ndata: [nowhere]\ninit: x\n",
            NO_SET,
        ),
        ("evaluate", "data: [x]\noutput: y\n", "verifier: missing"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, name, text, message):
    (tmp_path / "c.yaml").write_text(text)
    done = command(name, "--config", "c.yaml", cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.slow
def test_from_prompts_to_a_judged_verifier(tmp_path, run_keys, judge_keys, language_model):
    """With golden D's generator and a random judge, whose verdicts are replaced: the files fit from end to end."""
    run_keys = {**run_keys, **judge_keys}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run_keys))
    statistics = {f"normalization_{kind}_path": f"statistics/block_7_{kind}_bf16.pt" for kind in ("mean", "variance")}
    common = {"data": ["set"], "use_generation_prompt": False, **statistics}
    training = {**common, "batch_size": 4, "micro_batch": 4, "eval_fraction": 0, "output_path": "out", "max_steps": 2}
    configs = {
        "collect": {"run": "run.yaml", "annotation": run_keys["annotation"], "output": "set", "candidates": 4,
                    "pictures": "png", "reserve_gib": 0},
        "normalize": {"data": ["set"], "output": "statistics"},
        "label": {"task": "verdicts", "data": ["set"], "judge": "run.yaml"},
        "align": {**training, "stage": "align", "name": "one", "captions": None, "init": str(language_model)},
        "finetune": {**training, "stage": "finetune", "name": "two", "init": "out/one/checkpoint"},
        "evaluate": {**common, "verifier": "out/two/checkpoint", "output": "found.json", "best_of": [1, 4]},
    }  # fmt: skip
    for name, keys in configs.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(keys))
        script = "train" if name in ("align", "finetune") else name
        done = command(script, "--config", f"{name}.yaml", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        if name == "label":
            rows = [json.loads(line) for line in (tmp_path / "set" / "labels.jsonl").read_text().splitlines()]
            rows = [row | {"correct": row["candidate"] % 2 == 0} for row in rows]
            (tmp_path / "set" / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert json.loads((tmp_path / "found.json").read_text())["candidates"] == 12
    assert torch.load(tmp_path / statistics["normalization_mean_path"], weights_only=True).shape == (1, 48)
    assert (tmp_path / "out" / "two" / "checkpoint" / "model.safetensors").exists()
    assert any((tmp_path / "out" / "two").rglob("events.out.tfevents*"))
