"""Verifiers named by Hub id; what the Hub itself answers is held in tests/test_hub.py."""

import huggingface_hub
import pytest

from vhs.errors import CheckpointError
from vhs.verifiers import load_verifier

HIDDEN = "aimagelab/vhs-hidden-verifier"


def test_missing_folder():
    message = "latent_verifier_path: ckpts/none: no such folder; give a folder or a Hub id"
    with pytest.raises(CheckpointError, match=message):
        load_verifier("ckpts/none")


def test_offline_without_a_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    message = "with a network run: python inference_scripts/download.py --config"
    with pytest.raises(CheckpointError, match=message) as error:
        load_verifier(HIDDEN)
    assert str(error.value).startswith(f"latent_verifier_path: {HIDDEN}: not in the Hub cache")


def test_a_download_is_used_and_never_asks_for_pickles(monkeypatch, checkpoint, activations):
    folder = checkpoint("A/vhs-tiny-hidden")
    asked = []

    def download(repository, allow_patterns, local_files_only=False):
        assert repository == HIDDEN
        if local_files_only:
            raise huggingface_hub.errors.LocalEntryNotFoundError("not in the cache")
        asked.append(allow_patterns)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    score = load_verifier(HIDDEN, "hidden_7").score("a bench", activations["p0"])
    assert score.score.shape == (5,) and asked[0] == ["config.json"] and "*.safetensors" in asked[1]
    assert not any("bin" in pattern for patterns in asked for pattern in patterns)
