from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import errors

from vhs.errors import CheckpointError
from vhs.verifiers import load_verifier
from vhs.verifiers.hub import find_folder, is_hub_id

HIDDEN = "aimagelab/vhs-hidden-verifier"


def refusing(monkeypatch, error):
    def download(*_, **__):
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)


def http_error(kind):
    error = kind.__new__(kind)
    Exception.__init__(error, "403 Forbidden\nmore")
    return error


def test_hub_ids():
    assert is_hub_id(HIDDEN) and is_hub_id("openai/clip-vit-large-patch14-336")
    for local in ("ckpts/missing", "tests/missing", "/abs/path", "./here", "~/there", "a/b/c", "alone", ".."):
        assert not is_hub_id(local), local


def test_missing_folder():
    with pytest.raises(CheckpointError, match="latent_verifier_path: ckpts/none: no such folder; give a folder or a Hub id"):
        load_verifier("ckpts/none")


def test_offline_without_a_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match="not in the Hub cache, .* with a network run: python inference_scripts/download.py --config") as error:  # fmt: skip  # noqa: E501
        load_verifier(HIDDEN)
    assert HIDDEN in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "kind, message",
    [
        (errors.RepositoryNotFoundError, "no such repository on the Hugging Face Hub; check the spelling, or set HF_TOKEN"),
        (errors.GatedRepoError, f"is gated: accept its terms at https://huggingface.co/{HIDDEN} and set HF_TOKEN"),
        (errors.HfHubHTTPError, r"download failed \(403 Forbidden\); python inference_scripts/download.py"),
        (TimeoutError, r"download failed \(403 Forbidden\); python inference_scripts/download.py"),
    ],
)
def test_answers_of_the_hub(kind, message, monkeypatch):
    refusing(monkeypatch, http_error(kind))
    with pytest.raises(CheckpointError, match=message) as error:
        load_verifier(HIDDEN)
    assert str(error.value).startswith("latent_verifier_path: ") and "\n" not in str(error.value)


def test_folders_come_before_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "name").mkdir(parents=True)
    refusing(monkeypatch, AssertionError("the Hub was asked"))
    assert find_folder("owner/name", "key") == tmp_path / "owner" / "name"


def test_a_download_is_used(tmp_path, monkeypatch, checkpoint, activations):
    folder = checkpoint("A/vhs-tiny-hidden")
    asked = SimpleNamespace(patterns=[])

    def download(repository, allow_patterns):
        asked.patterns.append(allow_patterns)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    score = load_verifier(HIDDEN, "hidden_7").score("a bench", activations["p0"])
    assert score.score.shape == (5,) and asked.patterns[0] == ["config.json"] and "*.safetensors" in asked.patterns[1]
    assert not any("bin" in pattern for patterns in asked.patterns for pattern in patterns)
