"""Any image-text-to-text model of transformers answers yes or no, through its own processor and chat template."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests import vlms
from vhs.errors import CheckpointError, ConfigError, ImageError, PromptError
from vhs.verifiers import vlm
from vhs.verifiers.vlm import VisionLanguageModel, VlmVerifier, check_vlm

BOTH = {"yes": vlm.YES_SPELLINGS, "no": vlm.NO_SPELLINGS}
QUESTIONS = ["Is it red?", "Is there, on the left, something else than a circle? Answer in one word.", "Hm"]


@pytest.fixture(scope="module", params=vlms.BUILDERS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vlms.BUILDERS[request.param](tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vlms.save_gemma3(tmp_path_factory.mktemp("gemma"))


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    return vlms.pictures((64, 64), (48, 80), (64, 64))


def by_hand(model: VisionLanguageModel, picture: Image.Image, question: str) -> torch.Tensor:
    """Probabilities of the next token, from one plain forward pass of one conversation."""
    with torch.no_grad():
        return model.model(**vlms.asked(model, picture, question)).logits[0, -1].softmax(dim=-1)


def test_answers_are_those_of_a_plain_forward_pass_whatever_the_batch(folder, pictures) -> None:
    model = VisionLanguageModel.load(folder)
    tokens = [model.single_tokens(vlm.YES_SPELLINGS), model.single_tokens(["2", "two"]), [5]]
    wanted = [by_hand(model, *pair) for pair in zip(pictures, QUESTIONS, strict=True)]
    sums = torch.stack([row[ids].sum() for row, ids in zip(wanted, tokens, strict=True)])
    for model.batches.size in (None, 2, 1):
        found = model.answer_probabilities(pictures, QUESTIONS, tokens)
        torch.testing.assert_close(found.probabilities, sums, atol=1e-6, rtol=1e-4)
        assert found.tokens.tolist() == [int(row.argmax()) for row in wanted]


def test_pictures_and_prompts_move_the_score(folder, pictures) -> None:
    verifier = VlmVerifier(VisionLanguageModel.load(folder), answers=BOTH)
    one, other = verifier.score("a red circle", pictures), verifier.score("two blue stars, side by side", pictures)
    assert len(set(one.score.tolist())) == 3 and not torch.equal(one.score, other.score)
    assert one.score.dtype == torch.float32 and one.correct.dtype == torch.bool


def test_files_tell_that_a_model_can_answer(folder) -> None:
    check_vlm(folder, BOTH, "mine")


def test_both_kinds_of_score_come_from_the_same_answers(gemma, pictures) -> None:
    model = VisionLanguageModel.load(gemma)
    signed, soft = (
        VlmVerifier(model, answers=BOTH, score=kind).score("a cat", pictures) for kind in ("signed", "p_yes")
    )
    assert torch.equal(soft.score, signed.p_yes) and not signed.correct.any()
    assert torch.equal(signed.score, -signed.p_no)
    spaced = model.tokenizer.convert_tokens_to_ids(" yes")
    raised = torch.nn.functional.one_hot(torch.tensor(spaced), model.model.config.text_config.vocab_size) * 20
    hook = model.model.lm_head.register_forward_hook(lambda module, inputs, logits: logits + raised)
    yes = VlmVerifier(model).score("a cat", pictures[:1])
    hook.remove()
    assert yes.correct.all() and torch.equal(yes.score, yes.p_yes) and yes.p_yes < 0.01


def test_spellings_of_one_token_are_added_up_and_others_left_out(gemma, pictures) -> None:
    model = VisionLanguageModel.load(gemma)
    each = [model.single_tokens([word]) for word in vlm.YES_SPELLINGS]
    assert all(len(ids) == 1 for ids in each) and model.single_tokens(["Yes", "Yes", "splits"]) == each[0]
    found = model.answer_probabilities([pictures[0]] * 4, ["Is it red?"] * 4, each).probabilities.sum()
    together = VlmVerifier(model, question="Is it {prompt}?", answers=BOTH).score("red", pictures[:1]).p_yes
    torch.testing.assert_close(found[None], together, atol=1e-6, rtol=0)
    assert model.first_tokens(["Yes", "abc", "Yes"]) == [each[0][0], model.tokenizer.encode("a")[0], each[0][0]]


def test_a_tokenizer_that_splits_yes_is_refused_with_its_pieces(tmp_path) -> None:
    folder = vlms.save_gemma3(tmp_path, words=("No",))
    with pytest.raises(ConfigError, match=r"mine: its tokenizer splits 'Yes' \(Y \+ e \+ s\); give answers: \{yes: "):
        check_vlm(folder, vlm.ANSWERS, "mine")
    check_vlm(folder, {"yes": ("Yes", "Y"), "no": ("No",)}, "mine")
    with pytest.raises(ConfigError, match="yes and no share the token 'No'"):
        check_vlm(folder, {"yes": ("No",), "no": ("No",)}, "mine")


def test_control_tokens_and_bad_pictures_are_refused(gemma, pictures, tmp_path) -> None:
    verifier = VlmVerifier(VisionLanguageModel.load(gemma))
    with pytest.raises(PromptError, match="contains '<start_of_image>', which .* reads as a control token"):
        verifier.score("a cat <start_of_image>", pictures)
    with pytest.raises(ImageError, match="absent.png: no such picture"):
        verifier.score("a cat", [tmp_path / "absent.png"])


def changed(folder: Path, target: Path, file: str, **values) -> Path:
    target.mkdir()
    for one in folder.iterdir():
        (target / one.name).write_bytes(one.read_bytes())
    data = json.loads((target / file).read_text())
    (target / file).write_text(json.dumps({key: v for key, v in {**data, **values}.items() if v is not ...}))
    return target


def test_what_a_folder_lacks_is_one_line(gemma, tmp_path) -> None:
    language = changed(gemma, tmp_path / "a", "config.json", model_type="qwen2", architectures=["Qwen2ForCausalLM"])
    with pytest.raises(CheckpointError, match="model_type is 'qwen2', which is no image-text-to-text model"):
        check_vlm(language, BOTH, "mine")
    (language / "config.json").unlink()
    with pytest.raises(CheckpointError, match="not a usable vision-language model") as error:
        check_vlm(language, BOTH, "mine")
    assert "\n" not in str(error.value)
    silent = changed(gemma, tmp_path / "b", "config.json")
    (silent / "chat_template.jinja").unlink()
    with pytest.raises(CheckpointError, match="no chat template"):
        check_vlm(silent, BOTH, "mine")
    deeper = json.loads((gemma / "config.json").read_text())["text_config"]
    deeper |= {"num_hidden_layers": 3, "layer_types": ["full_attention"] * 3}
    short = changed(gemma, tmp_path / "c", "config.json", text_config=deeper)
    with pytest.raises(CheckpointError, match="tensors missing: .*layers.2"):
        VisionLanguageModel.load(short)


def test_remote_code_runs_only_where_the_entry_says_so(gemma, tmp_path) -> None:
    auto = {"AutoConfig": "own.OwnConfig", "AutoModelForImageTextToText": "own.Own"}
    remote = changed(gemma, tmp_path / "r", "config.json", model_type="own_vlm", auto_map=auto)
    (remote / "own.py").write_text("open('ran', 'w')\nraise RuntimeError('ran')\n")
    with pytest.raises(CheckpointError, match="read it, then put trust_remote_code: true into the entry"):
        check_vlm(remote, BOTH, "mine")
