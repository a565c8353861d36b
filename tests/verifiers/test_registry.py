import subprocess
import sys

import pytest

from vhs.errors import ConfigError
from vhs.verifiers.registry import load_registry, resolve_verifier

HIDDEN = "sana_hidden-7-Qwen2.5-0.5B-mlp-train-val-best-CEfocal-loss-alpha-0.37-gamma-0.0"
CLIP = "qwen2.5-0.5B_clip_original-data_XE"


def test_every_entry_resolves():
    for name in load_registry():
        assert resolve_verifier(name).name == name


def test_published_names():
    hidden, clip = resolve_verifier(HIDDEN), resolve_verifier(CLIP)
    assert hidden.vision_tower == "hidden_7" and clip.vision_tower == "openai/clip-vit-large-patch14-336"
    assert hidden.resize_vocabulary and clip.resize_vocabulary
    assert not resolve_verifier("tiny_hidden_7").resize_vocabulary


def test_wrong_name_answers_with_the_nearest():
    with pytest.raises(ConfigError, match="no verifier 'tiny_hiden_7'; did you mean 'tiny_hidden_7'"):
        resolve_verifier("tiny_hiden_7")
    with pytest.raises(ConfigError, match="did you mean .*'tiny_hidden_7'"):
        resolve_verifier("@@@")


@pytest.mark.parametrize(
    "entry, message",
    [
        ({"latent_verifier_path": "a/b"}, "needs latent_verifier_path and vision_tower"),
        ({"latent_verifier_path": "a/b", "vision_tower": "latent", "resize": True}, "unknown field resize; known: lat"),
        ({"latent_verifier_path": "a/b", "vision_tower": "latent", "resize_vocabulary": "yes"}, "is true or false"),
        ({"kind": "vila"}, "kind 'vila'; one of llava, random, none"),
    ],
)
def test_wrong_entries_are_named(entry, message):
    with pytest.raises(ConfigError, match=message):
        resolve_verifier("mine", {"mine": entry})


def test_lookup_is_light():
    code = "import sys, vhs.verifiers; vhs.verifiers.resolve_verifier('tiny_hidden_7'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "transformers", "huggingface_hub", "numpy"} & set(loaded)
