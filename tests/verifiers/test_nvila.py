"""NVILA's verifier through a stand-in with the interface of its remote code: `generate_content` and `tokenizer`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from vhs.config.run import load_config
from vhs.errors import CheckpointError, ConfigError
from vhs.paths import PROJECT
from vhs.select import by_score, tournament
from vhs.verifiers.nvila import Nvila, visa_question, visa_score
from vhs.verifiers.registry import load_registry

CODE = '''
import numpy as np
import torch
from transformers import PretrainedConfig, PreTrainedModel


class StandInConfig(PretrainedConfig):
    model_type = "nvila_stand_in"


class Words:
    def encode(self, word, add_special_tokens=True):
        return [{"yes": 3, "no": 5}[word]]


class StandIn(PreTrainedModel):
    """Says yes to a picture that is redder than blue; logits follow the colours."""
    config_class = StandInConfig

    def __init__(self, config):
        super().__init__(config)
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.tokenizer = Words()
        self.asked = []
        self.post_init()

    def generate_content(self, parts):
        picture, text = parts
        self.asked.append(text)
        red, _, blue = np.asarray(picture).reshape(-1, 3).mean(0)
        logits = torch.full((1, 8), -5.0)
        logits[0, 3], logits[0, 5] = red / 10, blue / 10
        return ("yes" if red > blue else "no"), (logits,)
'''


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    from safetensors.torch import save_file

    folder = tmp_path / "stand_in"
    folder.mkdir()
    (folder / "modeling_stand_in.py").write_text(CODE)
    auto = {"AutoConfig": "modeling_stand_in.StandInConfig", "AutoModel": "modeling_stand_in.StandIn"}
    config = {"model_type": "nvila_stand_in", "architectures": ["StandIn"], "auto_map": auto}
    (folder / "config.json").write_text(json.dumps(config))
    save_file({"weight": torch.ones(1)}, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def picture(red: int, blue: int) -> Image.Image:
    return Image.new("RGB", (8, 8), (red, 0, blue))


def test_the_stand_in_is_asked_visa_s_question_and_answers_become_scores(repository) -> None:
    verifier = Nvila(str(repository), trust_remote_code=True, dtype="float32")
    pictures = [picture(200, 0), picture(100, 50), picture(0, 200), picture(50, 100)]
    score = verifier.score("a red car", pictures)
    assert score.correct.tolist() == [True, True, False, False]
    order = sorted(range(4), key=lambda index: -score.score[index])
    assert order == [0, 1, 3, 2], "a higher yes first, then the lower no"
    assert score.p_yes[0] > 0.99 and (score.score[:2] > 0).all() and (score.score[2:] < 0).all()
    assert verifier.model.asked[0] == visa_question("a red car")


def test_the_question_is_the_published_one_with_visa_s_spaces() -> None:
    text = visa_question("a {red} car")
    assert "<image>" not in text and "given prompt.\nThe given prompt is:a {red} car. Please" in text
    assert text.endswith("response directly with 'yes' or 'no'.\n")


@pytest.mark.parametrize(
    ("first", "second", "winner"),
    [
        (("yes", 20.0, -3.0), ("yes", 20.1, 9.0), 1),
        (("yes", -4.0, -9.0), ("yes", -4.5, -9.0), 0),
        (("no", 9.0, 12.0), ("no", 1.0, 11.5), 1),
        (("yes", 1.0, 0.9), ("maybe", 5.0, -2.0), 0),
        (("no", 5.0, 6.0), ("yes", 3.0, 2.0), 1),
        (("yes", 7.0, 1.0), ("yes", 7.0, 0.0), 1),
    ],
)
def test_a_tournament_on_the_score_is_visa_s_comparison_of_logits(first, second, winner) -> None:
    def scored(answer: str, yes: float, no: float) -> float:
        return visa_score(answer, torch.tensor([yes, no, 0.0]), 0, 1).score.item()

    assert tournament(2, 1, by_score([scored(*first), scored(*second)])).winners == [winner]


def test_its_code_runs_only_where_the_entry_says_so(repository) -> None:
    with pytest.raises(ConfigError, match="read it, then put trust_remote_code: True into the entry's kwargs"):
        Nvila(str(repository))
    (repository / "modeling_stand_in.py").write_text(CODE.replace("def generate_content", "def other"))
    with pytest.raises(CheckpointError, match="has no generate_content"):
        Nvila(str(repository), trust_remote_code=True)
    with pytest.raises(CheckpointError, match="does not load"):
        Nvila(str(repository / "absent"), trust_remote_code=True)


def test_the_configuration_and_its_registry_load() -> None:
    config = load_config("configs/nvila_visa.yaml")
    assert (config.rule.name, config.rule.k, config.num_samples) == ("tournament", 4, 32)
    entries = load_registry(config.registry)
    assert entries["nvila"].values["kwargs"]["trust_remote_code"] is True and entries["nvila_scores"].values["scores"]
    assert (PROJECT / "requirements-nvila.txt").is_file()
