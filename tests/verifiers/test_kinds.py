"""Registry entries of every kind: what is wrong in one is one line before any model loads; what is right loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests import vlms
from vhs.checkpoints.hashes import file_hash
from vhs.config.run import RunConfig
from vhs.errors import ConfigError, VHSError
from vhs.paths import PROJECT
from vhs.verifiers import rewards
from vhs.verifiers.kinds import resolve_reward
from vhs.verifiers.registry import Entry
from vhs.verifiers.spec import VerifierSpec, resolve_verifier
from vhs.verifiers.vlm import VlmVerifier

COLOR_CLIP = str(PROJECT / "ckpts" / "tiny" / "color_clip")
PICTURES = [Image.new("RGB", (64, 64), color) for color in ("red", "blue", "green")]


@pytest.fixture
def resolve(tmp_path: Path):
    """`resolve(entry)`: the spec of a registry entry `mine`, with its files here."""

    def one(entry: dict[str, Any], **keys: Any) -> VerifierSpec:
        (tmp_path / "registry_of_mine.py").write_text(f"LATENT_VERIFIER = {{'mine': {entry!r}}}\n" + CLASS)
        registry = str(tmp_path / "registry_of_mine.py")
        config = RunConfig(ckpt="x", registry=registry, latent_verifier_name="mine", **keys)
        return resolve_verifier(config).fetched(None)

    return one


CLASS = """
class Mine:
    reads = "latent"
    width = 4
    def __init__(self, scale, dtype):
        self.scale, self.dtype = scale, dtype
    def score(self, prompt, latents):
        return self.scale * latents.flatten(1).sum(1)
"""


def test_a_class_is_loaded_with_its_arguments_and_its_file_is_recorded(resolve, tmp_path) -> None:
    spec = resolve({"class": "registry_of_mine:Mine", "kwargs": {"scale": 3}})
    assert (spec.kind, spec.reads, spec.block, spec.width) == ("class", "latent", None, 4)
    assert spec.settings == {
        "name": "mine", "kind": "class", "class": "registry_of_mine:Mine", "kwargs": {"scale": 3},
    }  # fmt: skip
    assert spec.sources[0].hash()["sha256"] == file_hash(tmp_path / "registry_of_mine.py")
    verifier = spec.load("cpu", "bfloat16", 2)
    assert verifier.score("a cat", torch.ones(3, 4, 1, 2)).score.tolist() == [24, 24, 24]
    assert verifier.inner.dtype == "bfloat16"


def test_an_open_clip_folder_is_a_clip_score(resolve) -> None:
    spec = resolve({"kind": "clip_score", "latent_verifier_path": COLOR_CLIP})
    verifier = spec.load("cpu", "float32", 2)
    assert isinstance(verifier.clip, rewards.OpenClip) and verifier.scale == 100
    assert verifier.score("a red square", PICTURES).score.shape == (3,) and spec.reads == "image"


def test_a_vision_language_model_is_an_entry(resolve, tmp_path) -> None:
    folder = vlms.save_gemma3(tmp_path / "gemma")
    entry = {"kind": "vlm", "latent_verifier_path": str(folder), "question": "Is it {prompt}?", "score": "p_yes"}
    verifier = resolve(entry).load("cpu", "float32", 2)
    assert isinstance(verifier, VlmVerifier) and verifier.question == "Is it {prompt}?" and verifier.micro_batch == 2
    score = verifier.score("red", PICTURES)
    assert torch.equal(score.score, score.p_yes)
    other = vlms.save_gemma3(tmp_path / "other", words=("Yes",))
    with pytest.raises(ConfigError, match="other: its tokenizer splits 'No'"):
        resolve(entry, latent_verifier_path=str(other))


def test_hub_defaults_stand_where_an_entry_names_none() -> None:
    config = RunConfig(ckpt="x", latent_verifier=False, num_samples=1)
    for kind, names in {
        "clip_score": ["openai/clip-vit-large-patch14"],
        "pick_score": ["yuvalkirstain/PickScore_v1", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"],
        "hps": ["xswu/HPSv2"],
    }.items():
        spec = resolve_reward(Entry("mine", Path("r.py"), {"kind": kind}), config, offline=True)
        assert [source.repository for source in spec.sources] == names


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"kind": "clip_scor"}, "kind 'clip_scor'; did you mean clip_score"),
        ({"kind": "vlm"}, "needs latent_verifier_path, a folder or Hub id"),
        ({"kind": "vlm", "latent_verifier_path": "x", "question": "Is it?"}, "a text with {prompt} in it is right"),
        ({"kind": "vlm", "latent_verifier_path": "x", "answers": ["Yes"]}, "answers is ['Yes']; {'yes': ['Yes', ...]"),
        ({"kind": "vlm", "latent_verifier_path": "x", "answers": {"yes": [], "no": ["No"]}}, "answers is {'yes': []"),
        ({"kind": "vlm", "latent_verifier_path": "x", "score": "soft"}, "score 'soft'; one of signed, p_yes"),
        (
            {"kind": "vlm", "latent_verifier_path": "x", "trust_remote_code": "yes"},
            "trust_remote_code is true or false",
        ),
        ({"kind": "vlm", "latent_verifier_path": "absent"}, "latent_verifier_path: absent: no such folder"),
        ({"kind": "vlm", "path": "x"}, "unknown field path; known: latent_verifier_path, question"),
        ({"kind": "clip_score", "latent_verifier_path": COLOR_CLIP, "library": "clip"}, "library 'clip'"),
        ({"kind": "clip_score", "latent_verifier_path": "ckpts/tiny/clip_vision"}, "model_type is 'clip_vision_model'"),
        ({"kind": "hps", "architecture": "ViT-H"}, "open_clip has no architecture 'ViT-H'; did you mean"),
        ({"kind": "hps", "latent_verifier_path": "ckpts/tiny"}, "HPS_v2.1_compressed.pt: missing"),
        ({"kind": "aesthetic", "latent_verifier_path": COLOR_CLIP}, "needs head, the predictor's .pth file"),
        ({"kind": "scores"}, "needs scores, a file that"),
        ({"kind": "scores", "scores": "absent.jsonl"}, "scores: absent.jsonl: no such file"),
        ({"class": "registry_of_mine:Mine"}, "kwargs do not fit (missing a required argument: 'scale')"),
        ({"class": "registry_of_mine:Mine", "kwargs": 3}, "kwargs is 3; a dict of arguments is right"),
        ({"class": "registry_of_mine:Yours"}, "has no class Yours; its classes: Mine"),
        ({"class": "registry_of_mine:Mine", "reads": "image"}, "unknown field reads; known: class, kwargs"),
    ],
)
def test_a_wrong_entry_is_one_line(entry, message, resolve) -> None:
    with pytest.raises(VHSError) as error:
        resolve(entry)
    assert message in str(error.value) and "\n" not in str(error.value)
