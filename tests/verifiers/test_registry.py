"""Verifiers by name: the shipped registry, a user's own, and what is wrong in an entry."""

import subprocess
import sys

import pytest

from vhs.config.run import RunConfig
from vhs.errors import ConfigError
from vhs.verifiers.registry import find_entry, load_registry
from vhs.verifiers.spec import KINDS, resolve_verifier

HIDDEN = "sana_hidden-7-Qwen2.5-0.5B-mlp-train-val-best-CEfocal-loss-alpha-0.37-gamma-0.0"
CLIP = "qwen2.5-0.5B_clip_original-data_XE"


def resolve(**keys):
    return resolve_verifier(RunConfig(ckpt="any", **keys), offline=True)


@pytest.fixture
def registry(tmp_path):
    """`registry({"mine": {...}})`: a registry file with these entries."""

    def write(entries: dict, name: str = "mine.py") -> str:
        (tmp_path / name).write_text(f"LATENT_VERIFIER = {entries!r}\n")
        return str(tmp_path / name)

    return write


@pytest.mark.parametrize("name", load_registry())
def test_every_shipped_entry_resolves(name):
    assert resolve(latent_verifier_name=name).kind in KINDS


def test_published_names():
    hidden, clip = resolve(latent_verifier_name=HIDDEN), resolve(latent_verifier_name=CLIP)
    assert hidden.vision_tower == "hidden_7" and clip.vision_tower == "openai/clip-vit-large-patch14-336"
    assert hidden.resize_vocabulary and clip.resize_vocabulary and clip.reads == "image"
    assert not resolve(latent_verifier_name="tiny_hidden_7").resize_vocabulary


def test_a_wrong_name_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="no verifier 'tiny_hiden_7'; did you mean tiny_hidden_7"):
        find_entry("tiny_hiden_7")
    with pytest.raises(ConfigError, match="there are .*tiny_hidden_7"):
        find_entry("@@@")


def test_a_users_own_registry_stands_beside_the_shipped_one(registry, monkeypatch):
    mine = registry({"mine": {"kind": "random"}})
    assert resolve(latent_verifier_name="mine", registry=mine).kind == "random"
    assert resolve(latent_verifier_name="tiny_hidden_7", registry=mine).kind == "llava"
    monkeypatch.setenv("VHS_REGISTRY", registry({"ours": {"kind": "none"}}, "ours.py"))
    assert {"mine", "ours", "tiny_hidden_7"} <= set(load_registry(mine))


def test_two_entries_of_one_name_are_refused(registry):
    mine = registry({"random": {"kind": "none"}})
    with pytest.raises(ConfigError, match="random: .* has another entry of this name; choose another"):
        load_registry(mine)


@pytest.mark.parametrize(
    "text, message",
    [
        ("import absent_module", "the registry cannot be read .ModuleNotFoundError: No module named 'absent_module'"),
        ("LATENT_VERIFIER = [1]", "a registry defines LATENT_VERIFIER, a dict of dicts"),
        ("x = 1", "a registry defines LATENT_VERIFIER"),
        ("(", "the registry cannot be read .SyntaxError"),
    ],
)
def test_a_file_that_is_no_registry_is_one_line(tmp_path, text, message):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(ConfigError, match=message) as raised:
        load_registry(str(tmp_path / "mine.py"))
    assert "\n" not in str(raised.value)


def test_a_registry_that_is_missing_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match="none.py: the registry cannot be read .FileNotFoundError"):
        load_registry(str(tmp_path / "none.py"))


@pytest.mark.parametrize(
    "entry, message",
    [
        ({"latent_verifier_path": "a/b"}, "mine: needs latent_verifier_path and vision_tower"),
        ({"latent_verifier_path": "a/b", "vision_tower": "latent", "resize": True}, "unknown field resize; known: lat"),
        ({"latent_verifier_path": "a/b", "vision_tower": "latent", "resize_vocabulary": "yes"}, "is true or false"),
        ({"kind": "vila"}, "kind 'vila'"),
        ({"kind": "random", "seed": 3}, "unknown field seed; known: none but kind"),
    ],
)
def test_wrong_entries_are_named(registry, entry, message):
    with pytest.raises(ConfigError, match=message):
        resolve(latent_verifier_name="mine", registry=registry({"mine": entry}))


def test_lookup_is_light():
    code = "import sys, vhs.verifiers.registry as r; r.find_entry('tiny_hidden_7'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "transformers", "huggingface_hub", "numpy"} & set(loaded)
