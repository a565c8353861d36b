"""Configurations: files, overrides, and the one line that a mistake is answered with."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
import yaml

from vhs.config import page
from vhs.config.run import RunConfig, load_config
from vhs.config.yamlfile import parse_override
from vhs.errors import ConfigError
from vhs.paths import find

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
MINIMAL = "ckpt: some/where\nlatent_verifier_path: there\n"


def load(tmp_path: Path, text: str, *overrides: str) -> RunConfig:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    return load_config(file, overrides)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem[:30])
def test_every_shipped_configuration_loads_and_names_its_own_command(path: Path) -> None:
    load_config(path)
    assert f"--config configs/{path.name}" in path.read_text()


def test_the_published_files_have_the_published_keys_and_values() -> None:
    """Digests of the release's own two files, as sorted JSON."""
    published = [path for path in CONFIGS if path.name.startswith("config_")]
    digests = {path.name.split("_")[1]: _digest(yaml.safe_load(path.read_text())) for path in published}
    assert digests == {"clip": "f9013b58da188c52", "hidden-7": "feeb63d8721f396c"}


def _digest(keys: dict) -> str:
    return hashlib.sha256(json.dumps(keys, sort_keys=True).encode()).hexdigest()[:16]


def test_overrides_replace_the_file_and_are_read_as_yaml(tmp_path: Path) -> None:
    config = load(tmp_path, MINIMAL + "seed: 1\n", "seed=3", "detector_size=[64, 64]", "guidance_scale=1e0", "name=a=b")
    assert (config.seed, config.detector_size, config.guidance_scale, config.name) == (3, (64, 64), 1.0, "a=b")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("num_sample: 3", "c.yaml:3: num_sample: unknown key; did you mean num_samples, "),
        ("qqqq: 3", "c.yaml:3: qqqq: unknown key; the keys are listed in docs/configuration.md"),
        ("num_samples: many", "c.yaml:3: num_samples: 'many' is of the wrong type; a whole number is needed"),
        ("num_samples: true", "c.yaml:3: num_samples: True is of the wrong type; a whole number is needed"),
        ("num_samples: 2.5", "c.yaml:3: num_samples: 2.5 is of the wrong type; a whole number is needed"),
        ("num_samples: 0", "c.yaml:3: num_samples: 0 is out of range; at least 1 is needed"),
        ("fmt: jpeg", "c.yaml:3: fmt: 'jpeg' is not a choice; one of jpg, png or webp; did you mean jpg?"),
        (
            "generation_mode: pro",
            "c.yaml:3: generation_mode: 'pro' is not a choice; one of prod or dev; did you mean prod?",
        ),
        ("name: 3", "c.yaml:3: name: 3 is of the wrong type; text is needed (put it in quotes)"),
        (
            "name: a/b",
            "c.yaml:3: name: 'a/b' is not allowed; a folder name without blanks, slashes or a leading dot is needed",
        ),
        ("device: gpu", "c.yaml:3: device: 'gpu' is not allowed; auto, cpu, mps, cuda or cuda:<number> is needed"),
        ("cont: maybe", "c.yaml:3: cont: 'maybe' is of the wrong type; true or false is needed"),
        ("guidance_scale: .nan", "c.yaml:3: guidance_scale: nan"),
        ("detector_size: [64]", "c.yaml:3: detector_size: has too few or too many values"),
        ("ckpt: ''", "c.yaml:3: ckpt: given twice, first on line 1; remove one of them"),
        ("hidden_step: 2", "c.yaml:3: hidden_step: 2 is past the last of 1 denoising steps"),
        (
            "latent_verifier: false",
            "c.yaml:3: latent_verifier: false leaves nothing to choose by among 8 candidates in prod",
        ),
        (
            "normalization_mean_path: m.pt",
            "c.yaml:3: normalization_mean_path: given without normalization_variance_path",
        ),
        ("{bad", "c.yaml:3: not valid YAML"),
        ('name: "a\\ud800"', "c.yaml:3: name: '\\ud800' is half of a character; whole characters are right"),
    ],
)
def test_a_mistake_is_answered_with_file_line_key_and_remedy(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, MINIMAL + line + "\n")
    assert message in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sed=3"], "command line: sed: unknown key; did you mean seed"),
        (["seed"], "command line: 'seed' is not an override; write key=value"),
        (["seed=-1"], "command line: seed: -1 is out of range; at least 0 is needed"),
        (["latent_verifier_path=null"], "latent_verifier: true, but no verifier is named"),
        (["offload=model", "device=cpu"], "command line: offload: model has nothing to move away from on device: cpu"),
        (["num_inference_steps=9"], "command line: num_inference_steps: 9 is not one of 1 to 8, SANA-Sprint's"),
        (["block=transformer_blocks.7"], "command line: block: is read with generator: diffusers only"),
        (["detector=mmdet", "segmentation_ckpt_path=x"], "command line: detector: mmdet needs its configuration file"),
        (["seed=a", "num_samples=b"], "(1 more problem after this one)"),
    ],
)
def test_overrides_are_checked_like_the_file(tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        load(tmp_path, MINIMAL, *overrides)


def test_a_missing_or_wrong_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read .*; configurations are in configs/"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match=r"c.yaml:1: not a mapping"):
        load(tmp_path, "- a\n- b\n")
    with pytest.raises(ConfigError, match=r"ckpt: missing; this key has no default"):
        load(tmp_path, "")


def test_a_mapping_of_overrides_is_checked_too(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(MINIMAL)
    assert load_config(file, {"num_samples": 3}).num_samples == 3
    with pytest.raises(ConfigError, match="num_samples"):
        load_config(file, {"num_samples": 0})


def test_paths_are_found_in_the_project_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find("data/object_names.txt").is_file()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "object_names.txt").write_text("mine")
    assert find("data/object_names.txt").read_text() == "mine"
    assert str(find("data/none.txt")) == "data/none.txt"


def test_override_values_that_are_no_yaml_stay_text() -> None:
    assert parse_override("name=[a") == ("name", "[a")
    assert parse_override("annotation=a b.txt") == ("annotation", "a b.txt")


def test_the_page_of_all_keys_is_not_stale() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.made(text) == text, "python -m vhs.config.page --write makes it again"
    for key in RunConfig.model_fields:
        assert f"\n| `{key}` |" in text, key


def test_every_key_says_what_it_means() -> None:
    assert [key for key, field in RunConfig.model_fields.items() if not field.description] == []


def test_what_the_rest_of_the_project_asks_of_the_keys_stands_with_them() -> None:
    assert set(RunConfig.keys_where(results=False)) == {
        "name", "seeds", "output_path", "cont", "overwrite", "re_eval", "micro_batch", "offload", "budget_ms",
        "compile", "cross_generator", "intermediate_benchmarking", "launcher", "timeout",
    }  # fmt: skip
    assert {"ckpt", "lora_weights", "annotation", "normalization"} <= set(RunConfig.keys_where(path=True))
    assert {"ckpt", "sana_lora_weights", "latent_verifier_path", "tokenizer_path"} <= set(
        RunConfig.keys_where(path="hub")
    )
