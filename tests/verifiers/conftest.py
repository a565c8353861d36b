"""Golden checkpoints, put together as they were: the folders share the tokenizer files of A/vhs-tiny-hidden."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

GOLDENS = Path(__file__).parents[1] / "goldens"
TOKENIZER = GOLDENS / "A" / "vhs-tiny-hidden"


@pytest.fixture
def checkpoint(tmp_path):
    """`checkpoint("A/vhs-tiny-hidden")`: a writable copy of a golden checkpoint; keywords change its config.json."""

    def build(name: str, folder: str | None = None, **changes) -> Path:
        target = tmp_path / (folder or Path(name).name)
        shutil.copytree(GOLDENS / name, target)
        for file in TOKENIZER.iterdir():
            if file.name not in ("config.json", "model.safetensors") and not (target / file.name).exists():
                shutil.copyfile(file, target / file.name)
        config = json.loads((target / "config.json").read_text())
        kept = {key: value for key, value in (config | changes).items() if value is not ...}
        (target / "config.json").write_text(json.dumps(kept))
        return target

    return build


@pytest.fixture(scope="session")
def activations():
    """Hidden states of the golden prompts: `p0`..`p5`, each (5, 64, 48) bfloat16."""
    return load_file(GOLDENS / "A" / "activations.safetensors")


@pytest.fixture(scope="session")
def statistics():
    """Paths of the per-channel statistics."""
    return {
        "normalization_mean_path": GOLDENS / "A" / "block_7_mean_bf16.pt",
        "normalization_variance_path": GOLDENS / "A" / "block_7_variance_bf16.pt",
    }


@pytest.fixture(scope="session")
def cases():
    """`cases("A")`: the golden's numbers."""
    return lambda name: json.loads((GOLDENS / name / "cases.json").read_text(encoding="utf-8"))
