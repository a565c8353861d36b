"""Small real models for whole runs: the golden generator and verifier, and a random detector and colour classifier."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.judge import write_judge

GOLDEN_D = Path(__file__).parent / "goldens" / "D"
PROMPTS = [
    {"tag": "single_object", "include": [{"class": "circle", "count": 1}], "prompt": "a photo of a circle"},
    {
        "tag": "counting",
        "include": [{"class": "star", "count": 2}],
        "exclude": [{"class": "star", "count": 3}],
        "prompt": "a photo of two stars",
    },
    {"tag": "colors", "include": [{"class": "ring", "count": 1, "color": "red"}], "prompt": "a photo of a red ring"},
]


@pytest.fixture(scope="session")
def judge_keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Configuration keys of an evaluator whose models are small and random."""
    return write_judge(tmp_path_factory.mktemp("judge") / "judge")


@pytest.fixture
def run_keys(tmp_path: Path) -> dict[str, Any]:
    """Keys of a run with golden D's generator and verifier: three prompts, four candidates, no judge."""
    (tmp_path / "prompts.json").write_text(json.dumps(PROMPTS))
    return {
        "name": "small",
        "ckpt": str(GOLDEN_D / "sana-sprint-tiny"),
        "output_path": str(tmp_path / "out"),
        "annotation": str(tmp_path / "prompts.json"),
        "seed": 42,
        "num_samples": 4,
        "image_width": 64,
        "image_height": 64,
        "latent_verifier_path": str(GOLDEN_D / "vhs-tiny-hidden"),
        "vision_tower": "hidden_7",
        "resize_vocabulary": True,
        "normalization_mean_path": str(GOLDEN_D / "block_7_mean_bf16.pt"),
        "normalization_variance_path": str(GOLDEN_D / "block_7_variance_bf16.pt"),
        "use_generation_prompt": False,
        "device": "cpu",
        "dtype": "float32",
        "max_sequence_length": 32,
        "complex_human_instruction": False,
        "micro_batch": 2,
    }


@pytest.fixture
def config_file(tmp_path: Path):
    """`config_file(keys, name)`: a YAML file with these keys."""

    def write(keys: dict[str, Any], name: str = "run.yaml") -> str:
        path = tmp_path / name
        path.write_text(yaml.safe_dump(keys))
        return str(path)

    return write
