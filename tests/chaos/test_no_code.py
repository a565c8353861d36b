"""No code from a file: Python and pickles are planted wherever a run loads, and nothing of them runs."""

from __future__ import annotations

import ast
import json
import pickle
import re
from pathlib import Path

import pytest

from tests.chaos.damage import AUTO_MAP, Bomb
from tests.chaos.scenes import inputs
from vhs.config.run import RunConfig
from vhs.errors import VHSError


def load_all(config: RunConfig, part: str | None = None) -> None:
    """What a run resolves and loads before its first candidate; of the models, `part` alone."""
    from vhs.resolve import resolve

    run = resolve(config)
    if part in (None, "generator"):
        run.models.load_generator()
    if part in (None, "verifier"):
        run.models.load_verifier()
    if part in (None, "judge"):
        for judge in run.judges:
            judge.load()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Questions on standard input, all of which are answered with y."""
    questions: list[str] = []

    def answer(question: str = "") -> str:
        questions.append(question)
        return "y"

    monkeypatch.setattr("builtins.input", answer)
    return questions


def test_the_bomb_goes_off_where_it_is_unpickled(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(tmp_path / "mark")))
    assert (tmp_path / "mark").is_dir()


PLACES = ("generator/tokenizer", "generator/text_encoder", "generator/transformer", "generator/vae", "verifier",
          "judge/detector", "judge/clip")  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_python_beside_a_model_is_not_run(tmp_path: Path, asked: list[str], place: str) -> None:
    keys = inputs(tmp_path)
    mark, folder = tmp_path / "mark", tmp_path / place
    (folder / "planted.py").write_text(f"import os\nos.mkdir({str(mark)!r})\nclass Planted: pass\n")
    for name in ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json"):
        file = folder / name
        values = json.loads(file.read_text()) if file.is_file() else {}
        file.write_text(json.dumps({**values, "auto_map": AUTO_MAP, "custom_pipeline": "planted"}))
    if place == "judge/clip":
        file = folder / "open_clip_config.json"
        values = json.loads(file.read_text())
        values["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = str(folder)
        file.write_text(json.dumps(values))
    try:
        load_all(RunConfig(**keys), place.partition("/")[0])
    except VHSError as error:
        assert len(str(error).splitlines()) == 1
    assert not mark.exists() and not asked


@pytest.mark.parametrize(
    ("name", "removed"),
    [
        ("block_7_mean.pt", None),
        ("verifier/pytorch_model.bin", "verifier/model.safetensors"),
        ("verifier/tokenizer.bin", None),
        (
            "generator/transformer/diffusion_pytorch_model.bin",
            "generator/transformer/diffusion_pytorch_model.safetensors",
        ),
        ("generator/text_encoder/pytorch_model.bin", "generator/text_encoder/model.safetensors"),
        ("judge/detector/pytorch_model.bin", "judge/detector/model.safetensors"),
        ("judge/clip/open_clip_pytorch_model.bin", "judge/clip/open_clip_model.safetensors"),
        ("judge/detector.pth", None),
        ("adapter/adapter_model.bin", None),
        ("adapter/non_lora_trainables.bin", None),
        ("lora/pytorch_lora_weights.bin", None),
    ],
)
def test_a_pickle_is_not_run(tmp_path: Path, asked: list[str], name: str, removed: str | None) -> None:
    keys = inputs(tmp_path)
    file, mark = tmp_path / name, tmp_path / "mark"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(pickle.dumps({"state_dict": Bomb(mark)}))
    if removed:
        (tmp_path / removed).unlink()
    if "adapter" in name:
        (file.parent / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"]}')
        keys["lora_weights"] = str(file.parent)
    if "lora/" in name:
        keys["sana_lora_weights"] = str(file)
    if name.endswith(".pth"):
        keys["segmentation_ckpt_path"] = str(file)
    part = {"adapter": "verifier", "lora": "generator"}.get(file.parent.name, name.partition("/")[0])
    if name == "verifier/tokenizer.bin":
        load_all(RunConfig(**keys), part)
    else:
        with pytest.raises(VHSError):
            load_all(RunConfig(**keys), part)
    assert not mark.exists() and not asked


def test_every_call_of_transformers_says_that_no_code_is_trusted() -> None:
    found = 0
    for file in (Path(__file__).parents[2] / "vhs").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if re.match(r"(Auto[A-Z]|CLIP|Mask2Former|kind|processor_class|model_class).*[.]from_pretrained$", called):
                assert "trust_remote_code" in {keyword.arg for keyword in node.keywords}, f"{file}:{node.lineno}"
                found += 1
    assert found >= 10
