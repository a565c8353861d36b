"""The commands as a user types them: what they print, and their exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from vhs.commands import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def command(capsys: pytest.CaptureFixture):
    """`command("run", *arguments)` -> (exit code, standard output, standard error)."""

    def call(*words: str) -> tuple[int, str, str]:
        code, printed = main(words), capsys.readouterr()
        return code, printed.out, printed.err

    return call


def test_verifiers_are_listed(command) -> None:
    code, out, _ = command("run", "--list-verifiers")
    assert code == 0 and "tiny_hidden_7\n" in out
    assert "sana_hidden-7-Qwen2.5-0.5B-mlp-train-val-best-CEfocal-loss-alpha-0.37-gamma-0.0\n" in out


def test_a_dry_run_tells_what_would_happen_and_loads_nothing(
    command, run_keys, judge_keys, config_file, monkeypatch
) -> None:
    for part in ("generators.spec.GeneratorSpec", "verifiers.load.LlavaSpec", "geneval.spec.GenEvalSpec"):
        monkeypatch.setattr(f"vhs.{part}.load", lambda *arguments: pytest.fail("a model was loaded"))
    file = config_file({**run_keys, **judge_keys})
    code, out, error = command("run", "--config", file, "num_samples=6", "--dry-run", "seed=3")
    assert code == 0, error
    sections = dict(part.split("\n", 1) for part in out.strip().removeprefix("# ").split("\n\n# "))
    resolved = yaml.safe_load(sections["configuration"])
    assert code == 0 and (resolved["num_samples"], resolved["seed"], resolved["tie"]) == (6, 3, "first")
    assert sections["stages, for each prompt"].splitlines() == [
        "encode the text: once",
        "prefix, to the verifier's block: every candidate",
        "score: every candidate",
        "finish, from that block on: the winner",
        "decode: the winner",
        "save: the winner",
        "judge by geneval: the winner",
    ]
    assert "prompts: 3\ncandidates: 18 (6 per prompt)\njudged prompts: 3" in sections["counts"]
    assert f"ckpt: {run_keys['ckpt']}" in sections["loaded from"]
    assert not Path(run_keys["output_path"]).exists()


def test_a_dry_run_of_a_published_file_says_what_is_not_here_yet(command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("vhs.runs.price.memory", lambda run: "counted in tests/runs/test_price.py")
    published = next(file for file in (ROOT / "configs").glob("config_hidden*"))
    code, out, _ = command("run", "--config", str(published), "--dry-run")
    assert code == 0 and "prompts: 553\ncandidates: 17696 (32 per prompt)\njudged prompts: 0" in out
    assert "GenEval does not run: the configuration names no detector" in out
    assert "ckpts/normalization/block_7_mean_bf16.pt" in out and "inference_scripts/download.py" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "none.yaml"], "error: none.yaml: cannot be read"),
        (["num_sample=3"], "error: command line: num_sample: unknown key; did you mean num_samples, "),
        (["latent_verifier_name=sana_hiden", "latent_verifier_path=null"], "did you mean"),
        (["annotation=none.json"], "error: none.json: cannot be read"),
        (["ckpt=nowhere"], "nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(command, run_keys, config_file, arguments, message) -> None:
    code, out, err = command("run", "--config", config_file(run_keys), *arguments)
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1 and "Traceback" not in err


def test_a_run_and_its_comparison(command, run_keys, config_file) -> None:
    file = config_file({**run_keys, "num_samples": 3})
    assert command("run", "--config", file, "generation_mode=dev")[0] == 0
    code, out, _ = command("run", "--config", file, "name=quick")
    assert code == 0 and "nothing was judged" in out
    folders = [f"{run_keys['output_path']}/{name}" for name in ("small", "quick")]
    code, out, _ = command("compare", *folders)
    assert code == 0 and "winners: the same for 3 of 3 prompts" in out
    assert "finish 3 instead of 9, decode 3 instead of 9" in out
    code, _, err = command("compare", folders[0], "nowhere")
    assert code == 2 and err == "error: nowhere: no such folder; give the folder of a run, such as outputs/tiny\n"


def test_several_configurations_run_in_one_process_as_each_alone(
    command, run_keys, config_file, tmp_path: Path
) -> None:
    dev = config_file({**run_keys, "name": "dev", "generation_mode": "dev"}, "dev.yaml")
    (tmp_path / "prod.yaml").write_text(f"base: {dev}\nname: prod\ngeneration_mode: prod\n")
    code, out, _ = command("run", "--config", dev, "--config", str(tmp_path / "prod.yaml"))
    of_dev, of_prod = (Path(run_keys["output_path"]) / name / "report.html" for name in ("dev", "prod"))
    assert code == 0 and str(of_dev) in out and out.strip().endswith(str(of_prod))
    assert of_dev.is_file() and of_prod.is_file()


def test_a_mistake_in_the_last_configuration_is_found_before_the_first_runs(command, run_keys, config_file) -> None:
    good = config_file({**run_keys, "name": "good"}, "good.yaml")
    bad = config_file({**run_keys, "name": "bad", "ckpt": "nowhere"}, "bad.yaml")
    code, _, error = command("run", "--config", good, "--config", bad)
    assert code == 2 and "ckpt: nowhere" in error
    code, _, error = command("run", "--config", good, "--config", good)
    assert code == 2 and "2 of the configurations write into" in error
    assert not Path(run_keys["output_path"]).exists()
