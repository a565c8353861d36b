"""Whole runs on small real models: what is written, what is continued, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from vhs.config.run import RunConfig
from vhs.errors import CheckpointError, ConfigError, ImageError, PromptError, RunError
from vhs.generators.spec import GeneratorSpec
from vhs.geneval.spec import GenEvalSpec
from vhs.resolve import ResolvedRun
from vhs.runs import runner
from vhs.runs.folder import RunFolder
from vhs.verifiers.load import LlavaSpec

ROOT = Path(__file__).parents[2]
GOLDEN_D = ROOT / "tests" / "goldens" / "D"
KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from vhs.runs import manifest, runner
from vhs.config.run import load_config
manifest._git = lambda: None
replace, left = os.replace, [int(sys.argv[3])]
def deadly(source, target):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = deadly
runner.run(load_config(sys.argv[2]), bar=False)
"""


def run(keys: dict[str, Any]) -> tuple[Path, str, list[str]]:
    """(run folder, closing text, lines said)."""
    said: list[str] = []
    config = RunConfig(**keys)
    text = runner.run(config, say=said.append, bar=False)
    return Path(config.output_path) / config.name, text, said


def contents(root: Path) -> dict[str, bytes]:
    """Every file but the timings, and the report that shows them, by name."""
    return {
        str(file.relative_to(root)): file.read_bytes()
        for file in sorted(root.rglob("*"))
        if file.is_file() and file.name not in ("timings.json", "report.html")
    }


@pytest.fixture
def keys(run_keys, judge_keys) -> dict[str, Any]:
    return {**run_keys, **judge_keys}


def test_a_dev_run_writes_every_candidate_and_a_table(keys) -> None:
    root, text, said = run({**keys, "generation_mode": "dev"})
    assert said == [] and "oracle %" in text and "mean over prompts" in text
    assert {file.name for file in root.iterdir()} == {
        "gen_eval_small",
        "run.json",
        "summary.json",
        "summary.csv",
        "timings.json",
        "contact_sheet.png",
        "report.html",
    }
    samples = root / "gen_eval_small" / "00001" / "samples"
    names = sorted(file.name for file in samples.iterdir())
    winner = next(name for name in names if name.startswith("best_"))
    assert names == sorted(
        [winner, *(f"img_{i:05d}.png" for i in range(4)), *(f"{i:05d}_metadata.json" for i in range(4))]
    )
    rows = json.loads((root / "gen_eval_small" / "all_annotations_proc_vhs-tiny-hidden_id_proc_0.json").read_text())
    scores = [row["score"] for row in rows[4:8]]
    assert winner == f"best_{scores.index(max(scores)):05d}.png"
    pictures = [(samples / f"img_{i:05d}.png").read_bytes() for i in range(4)]
    assert [picture == (samples / winner).read_bytes() for picture in pictures] == [s == max(scores) for s in scores]
    assert [(row["prompt"], row["gen_idx_gt"]) for row in rows[4:6]] == [
        ("a photo of two stars", 0),
        ("a photo of two stars", 1),
    ]
    assert rows[5] == json.loads((samples / "00001_metadata.json").read_text()) and Path(rows[5]["filename"]).is_file()
    assert set(rows[0]) == {
        "correct_verifier",
        "score",
        "prompt",
        "gen_idx_gt",
        "filename",
        "p_yes",
        "p_no",
        "tag",
        "correct",
        "reason",
    }
    assert json.loads((root / "summary.json").read_text())["counts"] == {
        "prompts": 3,
        "judged_prompts": 3,
        "candidates_per_prompt": 4,
        "judged_pictures": 12,
    }


def test_a_prod_run_keeps_the_winner_s_picture_and_everybody_s_score(keys) -> None:
    dev, _, _ = run({**keys, "generation_mode": "dev"})
    prod, text, _ = run({**keys, "name": "quick"})
    assert "pick %" in text and "oracle" not in text
    kinds = ("all", "best")
    of_dev, of_prod = (
        {kind: json.loads(next(root.glob(f"gen_eval_*/{kind}_*")).read_text()) for kind in kinds}
        for root in (dev, prod)
    )
    assert [row["score"] for row in of_dev["all"]] == [row["score"] for row in of_prod["all"]]
    assert [row["gen_idx_gt"] for row in of_dev["best"]] == [row["gen_idx_gt"] for row in of_prod["best"]]
    assert [row["correct"] for row in of_dev["best"]] == [row["correct"] for row in of_prod["best"]]
    pictures = sorted(file.name for file in (prod / "gen_eval_quick" / "00000" / "samples").glob("*.png"))
    winner = of_prod["best"][0]["gen_idx_gt"]
    assert pictures == [f"best_{winner:05d}.png", f"img_{winner:05d}.png"]
    assert sum("correct" in row for row in of_prod["all"]) == 3
    stages = json.loads((prod / "timings.json").read_text())["stages"]
    assert {name: stages[name]["items"] for name in stages} == {
        "encode": 3,
        "prefix": 12,
        "score": 12,
        "finish": 3,
        "decode": 3,
        "judge": 3,
        "save": 3,
    }


def test_run_json_says_what_was_run(keys) -> None:
    root, _, _ = run({**keys, "num_samples": 1})
    manifest = json.loads((root / "run.json").read_text())
    assert (
        manifest["config"]["seed"] == 42 and manifest["config"]["tie"] == "first" and "cont" not in manifest["config"]
    )
    assert manifest["prompts"]["count"] == manifest["prompts"]["judged"] == 3 and manifest["geneval"]["runs"] is True
    assert set(manifest["checkpoints"]) == {
        "ckpt",
        "latent_verifier_path",
        "normalization_mean_path",
        "normalization_variance_path",
        "segmentation_ckpt_path",
        "color_classifier",
        "object_names",
    }
    assert all(len(entry["sha256"]) == 64 for entry in manifest["checkpoints"].values())
    assert {"torch", "diffusers", "python"} <= set(manifest["versions"]) and "commit" in manifest["git"]


@pytest.mark.parametrize("renames", [1, 6, 20, 36])
def test_a_killed_run_has_whole_files_only_and_continues_to_the_same_bytes(
    run_keys, config_file, renames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL before the n-th rename: in run.json, the first prompt, the second, or after the last."""
    monkeypatch.setattr("vhs.runs.manifest._git", lambda: None)  # a commit meanwhile is none of this test's business
    keys = {**run_keys, "generation_mode": "dev"}
    root, _, _ = run(keys)
    whole = contents(root)
    shutil.rmtree(root)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(ROOT), config_file(keys), str(renames)], capture_output=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    for file in root.rglob("*.json"):
        json.loads(file.read_text())
    for file in root.rglob("*.png"):
        Image.open(file).load()
    before = sorted(folder.name for folder in root.glob("gen_eval_small/0*"))
    run({**keys, "cont": True})
    assert contents(root) == whole and len(before) == {1: 0, 6: 0, 20: 1, 36: 3}[renames]


def test_an_interrupted_run_goes_on_where_it_stopped(run_keys, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {**run_keys, "num_samples": 2}
    write, written = RunFolder.write_prompt, []

    def until_second(folder: RunFolder, prompt: Any, *rest: Any) -> None:
        if prompt.id == 1:
            raise KeyboardInterrupt
        write(folder, prompt, *rest)

    def noted(folder: RunFolder, prompt: Any, *rest: Any) -> None:
        written.append(prompt.id)
        write(folder, prompt, *rest)

    monkeypatch.setattr(RunFolder, "write_prompt", until_second)
    with pytest.raises(KeyboardInterrupt):
        run(keys)
    monkeypatch.setattr(RunFolder, "write_prompt", noted)
    root, _, _ = run({**keys, "cont": True, "micro_batch": 1})
    assert written == [1, 2] and json.loads((root / "timings.json").read_text())["measured_prompts"] == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 43}, "made by another run (seed: 42, now 43)"),
        ({"fmt": "jpg"}, "fmt: png, now jpg"),
        ({"num_samples": 3}, "num_samples: 2, now 3"),
    ],
)
def test_the_folder_of_another_run_is_not_continued(run_keys, change, message) -> None:
    keys = {**run_keys, "num_samples": 2}
    root, _, _ = run(keys)
    before = contents(root)
    with pytest.raises(RunError) as raised:
        run({**keys, **change, "cont": True})
    assert message in str(raised.value) and contents(root) == before


def test_other_prompts_or_weights_behind_the_same_names_are_noticed(run_keys, tmp_path: Path) -> None:
    keys = {**run_keys, "num_samples": 1, "latent_verifier_path": str(tmp_path / "verifier")}
    shutil.copytree(run_keys["latent_verifier_path"], tmp_path / "verifier")
    run(keys)
    (tmp_path / "verifier" / "notes.json").write_text("{}")
    with pytest.raises(RunError, match="latent_verifier_path: .* has other content than before"):
        run({**keys, "cont": True})
    prompts = Path(keys["annotation"])
    prompts.write_text(prompts.read_text().replace("two stars", "two rings"))
    with pytest.raises(RunError, match="annotation: .* has other content than before"):
        run({**keys, "cont": True})


def test_a_finished_run_is_done_until_it_is_to_be_replaced_and_a_foreign_folder_is_left_alone(run_keys) -> None:
    keys = {**run_keys, "num_samples": 1}
    root, _, _ = run(keys)
    before = contents(root)
    _, text, said = run(keys)
    assert said == [f"{root}: already done; overwrite: true makes it again"] and "nothing was judged" in text
    assert contents(root) == before
    run({**keys, "seed": 7, "overwrite": True})
    assert json.loads((root / "run.json").read_text())["config"]["seed"] == 7 and len(list(root.parent.iterdir())) == 2
    (root / "run.json").unlink()
    with pytest.raises(RunError, match="holds .* but no run.json"):
        run(keys)


def test_a_run_without_a_detector_says_so_in_one_line(run_keys) -> None:
    root, text, said = run({**run_keys, "num_samples": 2})
    assert said == ["GenEval does not run: the configuration names no detector (segmentation_ckpt_path)"]
    assert text.startswith("nothing was judged; the verifier's score is ")
    manifest = json.loads((root / "run.json").read_text())
    assert manifest["geneval"] == {
        "runs": False,
        "reason": "the configuration names no detector (segmentation_ckpt_path)",
    }


def test_free_prompts_are_made_and_scored_but_not_judged(keys, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("a cat\n\na dog\n")
    root, _, said = run({**keys, "annotation": str(tmp_path / "mine.txt"), "num_samples": 2})
    assert len(said) == 1 and "has GenEval's metadata" in said[0]
    rows = json.loads(next(root.glob("gen_eval_*/all_*")).read_text())
    assert [row["prompt"] for row in rows] == ["a cat"] * 2 + ["a dog"] * 2 and "correct" not in rows[0]
    mixed = [json.loads(Path(keys["annotation"]).read_text())[0], {"prompt": "free"}]
    (tmp_path / "mixed.json").write_text(json.dumps(mixed))
    root, _, said = run({**keys, "annotation": str(tmp_path / "mixed.json"), "num_samples": 2, "name": "mixed"})
    rows = json.loads(next(root.glob("gen_eval_*/best_*")).read_text())
    assert said == [] and ["correct" in row for row in rows] == [True, False]


def test_order_of_prompts_does_not_matter_to_what_they_get(run_keys, tmp_path: Path, monkeypatch) -> None:
    keys = {**run_keys, "num_samples": 2}
    first, _, _ = run(keys)
    resolve = runner.resolve

    def backwards(*arguments: Any) -> ResolvedRun:
        resolved = resolve(*arguments)
        return dataclasses.replace(resolved, slices=(resolved.slices[0][::-1],))

    monkeypatch.setattr(runner, "resolve", backwards)
    second, _, _ = run({**keys, "output_path": str(tmp_path / "other")})
    for number in range(3):
        name = f"gen_eval_small/{number:05d}/samples"
        assert {f.name: f.read_bytes() for f in (first / name).glob("*.png")} == {
            f.name: f.read_bytes() for f in (second / name).glob("*.png")
        }


def test_the_published_noise_gives_the_published_choices_in_the_published_order(run_keys, tmp_path: Path) -> None:
    cases = json.loads((GOLDEN_D / "cases.json").read_text())["steps1"]
    texts = [record["prompt"] for record in json.loads((GOLDEN_D / "prompts.json").read_text())]
    (tmp_path / "golden.txt").write_text("\n".join(texts))  # without the golden's own tag, which is none of GenEval's
    root, _, _ = run(
        {
            **run_keys,
            "annotation": str(tmp_path / "golden.txt"),
            "noise": "published",
            "num_samples": 4,
            "complex_human_instruction": True,
            "max_sequence_length": 300,
        }
    )
    best = json.loads(next(root.glob("gen_eval_*/best_*")).read_text())
    assert [row["prompt"] for row in best] == [cases["prompts"][index] for index in cases["order_of_prompt_indices"]]
    assert [row["gen_idx_gt"] for row in best] == [choice["prod"] for choice in cases["chosen"]]
    assert sorted(str(file.relative_to(root / "gen_eval_small")) for file in root.glob("gen_eval_small/0*/**/*.*")) == [
        file for file in sorted(cases["files_prod"]) if file[0] == "0"
    ]
    seeds = json.loads((root / "run.json").read_text())["seeds"]
    assert seeds == {"run": 42, "noise": "published", "candidates": cases["sample_seeds"], "processes": 1}


def test_pictures_are_judged_again_without_a_generator(keys, monkeypatch: pytest.MonkeyPatch) -> None:
    root, _, _ = run({**keys, "generation_mode": "dev", "num_samples": 2})
    before = contents(root)
    monkeypatch.setattr(GeneratorSpec, "load", lambda spec: pytest.fail("a generator was loaded"))
    run({**keys, "generation_mode": "dev", "num_samples": 2, "re_eval": True})
    after = contents(root)
    assert {name for name in before if before[name] != after[name]} <= {"run.json"}
    with pytest.raises(RunError, match="re_eval has no run to judge again"):
        run({**keys, "name": "never", "re_eval": True})


def test_pictures_of_another_folder_are_judged(keys, tmp_path: Path) -> None:
    source, _, _ = run({**keys, "generation_mode": "dev", "num_samples": 2})
    free = {
        **keys,
        "num_samples": 2,
        "name": "read",
        "imgs_path": str(source / "gen_eval_small"),
        "generation_mode": "dev",
    }
    with pytest.raises(ConfigError, match="imgs_path: the verifier reads hidden features, which pictures do not have"):
        run(free)
    free |= {"latent_verifier": False}
    root, text, _ = run(free)
    assert "oracle %" in text
    name = "00002/samples/img_00001.png"
    assert (root / "gen_eval_read" / name).read_bytes() == (source / "gen_eval_small" / name).read_bytes()
    with pytest.raises(
        ImageError, match="num_samples is 3, but 00000 has 2, 00001 has 2, 00002 has 2; <prompt id>/samples"
    ):
        run({**free, "num_samples": 3, "name": "more"})


@pytest.mark.parametrize(("fmt", "kind"), [("jpg", "JPEG"), ("webp", "WEBP")])
def test_pictures_are_saved_in_the_format_asked_for(run_keys, fmt: str, kind: str) -> None:
    root, _, _ = run({**run_keys, "num_samples": 1, "fmt": fmt})
    assert Image.open(root / "gen_eval_small" / "00000" / "samples" / f"best_00000.{fmt}").format == kind


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"latent_verifier_name": "sana_hiden", "latent_verifier_path": None}, ConfigError, "did you mean"),
        ({"vision_tower": "hidden_12"}, CheckpointError, "block 12"),
        ({"ckpt": "nowhere/at/all"}, CheckpointError, "nowhere/at/all"),
        ({"normalization_mean_path": "gone.pt"}, CheckpointError, "normalization_mean_path: gone.pt is missing"),
        ({"annotation": "gone.json"}, PromptError, "gone.json: cannot be read"),
        ({"image_width": 65}, ConfigError, "image_width: 65 is not a multiple"),
        (
            {
                "segmentation_ckpt_path": "gone",
                "dataset": "geneval",
                "annotation": str(ROOT / "data" / "evaluation_metadata.json"),
            },
            CheckpointError,
            "segmentation_ckpt_path: gone is missing",
        ),
    ],
)
def test_mistakes_are_told_before_any_model_loads(run_keys, change, error, message, monkeypatch) -> None:
    for spec in (GeneratorSpec, LlavaSpec, GenEvalSpec):
        monkeypatch.setattr(spec, "load", lambda *arguments: pytest.fail("a model was loaded"))
    with pytest.raises(error) as raised:
        run({**run_keys, **change})
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_an_unknown_class_is_told_with_its_line(keys, tmp_path: Path) -> None:
    record = {"tag": "single_object", "include": [{"class": "star", "count": 1}], "prompt": "x"}
    lines = [json.dumps(record), json.dumps({**record, "include": [{"class": "starr", "count": 1}]})]
    (tmp_path / "p.jsonl").write_text("\n".join(lines))
    with pytest.raises(PromptError, match=r"p.jsonl:2: include\[0\] has an unknown class 'starr'; did you mean star"):
        run({**keys, "annotation": str(tmp_path / "p.jsonl")})


@pytest.mark.slow
def test_two_processes_make_what_one_makes(run_keys, tmp_path: Path) -> None:
    keys = {**run_keys, "num_samples": 2}
    one, _, _ = run(keys)
    file = tmp_path / "two.yaml"
    file.write_text(yaml.safe_dump({**keys, "name": "small", "output_path": str(tmp_path / "two")}))
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        str(ROOT / "inference_scripts" / "run.py"),
        "--config",
        str(file),
    ]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}  # torchrun gives one, and sums then round otherwise
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | threads)
    assert done.returncode == 0, done.stderr
    two = tmp_path / "two" / "small"
    for number in range(3):
        name = f"gen_eval_small/{number:05d}/samples"
        assert {f.name: f.read_bytes() for f in (one / name).glob("*.png")} == {
            f.name: f.read_bytes() for f in (two / name).glob("*.png")
        }
    ids = [
        [row["prompt"] for row in json.loads(file.read_text())]
        for file in sorted((two / "gen_eval_small").glob("best_*"))
    ]
    assert [len(part) for part in ids] == [2, 1]
