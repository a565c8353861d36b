"""A user's own class scores, whatever list of numbers it returns; what is wrong with it is one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vhs.errors import ConfigError, RunError
from vhs.records import Score
from vhs.verifiers.own import OwnVerifier, build, check_arguments, checked_score, load_class

RED = '''
import numpy as np

class Red:
    """The redder, the better."""
    reads = "image"

    def __init__(self, weight=1.0, device="cpu"):
        self.weight, self.device = weight, device

    def score(self, prompt, pictures):
        return [self.weight * float(np.asarray(one)[..., 0].mean()) for one in pictures]

class Pairs:
    reads = "image"
    batch = "all"
    def compare(self, prompt, a, b):
        return True

class Mute:
    reads = "image"

class Blind:
    reads = "pictures"
    def score(self, prompt, pictures): ...

class Hidden:
    reads = "hidden"
    def score(self, prompt, hidden): ...

FIVE = 5
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import sys

    name = f"mine_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(RED)
    yield tmp_path
    sys.modules.pop(name, None)


def found(folder: Path, name: str):
    return load_class(f"mine_{folder.name}:{name}", folder, "r.py: red")


def test_a_list_of_numbers_is_enough_and_arguments_come_from_entry_and_run(folder) -> None:
    run = {"device": "cuda:1", "dtype": "float32", "micro_batch": 4}
    verifier = build(found(folder, "Red"), {"weight": 2}, run, "red")
    assert (verifier.reads, verifier.block, verifier.micro_batch, verifier.inner.device) == ("image", None, 4, "cuda:1")
    score = verifier.score("a cat", [Image.new("RGB", (4, 4), color) for color in ("red", "blue", "#800000")])
    assert score.score.tolist() == [510, 0, 256] and score.p_yes is None
    assert build(found(folder, "Red"), {"device": "cpu"}, run, "red").inner.device == "cpu", "the entry wins"
    pairs = build(found(folder, "Pairs"), {}, run, "pairs")
    assert pairs.micro_batch is None and pairs.compare("a cat", 1, 2) and not pairs.scores


def test_a_verifier_gets_micro_batches_unless_it_must_see_all() -> None:
    class Counts:
        reads = "image"

        def __init__(self) -> None:
            self.seen = []

        def score(self, prompt, pictures):
            self.seen.append(len(pictures))
            return [len(self.seen)] * len(pictures)

    slices, whole = Counts(), Counts()
    whole.batch = "all"
    assert OwnVerifier(slices, "s", 8).score("a cat", [0] * 16).score.tolist() == [1] * 8 + [2] * 8
    OwnVerifier(whole, "w", 8).score("a cat", [0] * 16)
    assert (slices.seen, whole.seen) == ([8, 8], [16])


def test_the_folder_is_importable_for_the_class_alone(folder) -> None:
    import sys

    before = list(sys.path)
    assert found(folder, "Red").__name__ == "Red" and sys.path == before


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("Red", "class 'Red'; package.module:Class is right"),
        ("absent_module:Red", "class 'absent_module:Red': cannot be imported .ModuleNotFoundError: No module named"),
        ("{}:Reed", "has no class Reed; its classes: Red, Pairs, Mute, Blind, Hidden"),
        ("{}:FIVE", "has no class FIVE"),
        ("{}:Mute", r"Mute lacks score\(prompt, features\); or compare\(prompt, a, b\)"),
        ("{}:Blind", "Blind.reads is 'pictures'; one of 'hidden', 'latent', 'image', 'nothing'"),
        ("{}:Hidden", "Hidden.block is missing"),
    ],
)
def test_a_class_that_is_none_is_one_line(folder, reference, message) -> None:
    with pytest.raises(ConfigError, match=f"^r.py: red: .*{message}") as error:
        load_class(reference.format(f"mine_{folder.name}"), folder, "r.py: red")
    assert "\n" not in str(error.value)


def test_two_folders_may_have_a_module_of_the_same_name(tmp_path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        body = f"class V:\n    reads = 'image'\n    name = {name!r}\n    def score(self, prompt, pictures): ...\n"
        (tmp_path / name / "same_name_of_mine.py").write_text(body)
    names = [load_class("same_name_of_mine:V", tmp_path / name, "r.py: v").name for name in ("one", "two", "one")]
    assert names == ["one", "two", "one"]


def test_a_module_that_does_not_run_is_one_line(tmp_path) -> None:
    (tmp_path / "broken_module_of_mine.py").write_text("x = \n")
    with pytest.raises(ConfigError, match="cannot be imported .SyntaxError: invalid syntax") as error:
        load_class("broken_module_of_mine:Red", tmp_path, "r.py: red")
    assert "\n" not in str(error.value)


def test_arguments_that_the_class_does_not_take_are_refused(folder) -> None:
    check_arguments(found(folder, "Red"), {"weight": 2}, "r.py: red")
    with pytest.raises(ConfigError, match="kwargs do not fit .got an unexpected keyword argument 'wait'"):
        check_arguments(found(folder, "Red"), {"wait": 2}, "r.py: red")


@pytest.mark.parametrize(
    "returned",
    [[1, 2.5], (1, 2.5), np.array([1, 2.5]), torch.tensor([1, 2.5]), [torch.tensor(1.0), np.float64(2.5)], [True, 2.5]],
)
def test_lists_arrays_and_tensors_become_scores(returned) -> None:
    assert checked_score(returned, 2, "red").score.tolist() == [1, 2.5]


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ([1.0], "red: score returned 1 score for 2 candidates"),
        (torch.ones(3), "red: score returned 3 scores for 2 candidates"),
        (Score.plain([1.0]), "red: score returned 1 score for 2 candidates"),
        (None, "red: score returned NoneType; a list of 2 numbers is right"),
        (0.5, "red: score returned float; a list of 2 numbers is right"),
        ([1.0, "yes"], "red: candidate 1: score is 'yes'; a number is right"),
        (torch.ones(2, 1), r"red: candidate 0: score is \[1.0\]; a number is right"),
    ],
)
def test_another_number_of_scores_or_no_numbers_are_refused(returned, message) -> None:
    with pytest.raises(RunError, match=message):
        checked_score(returned, 2, "red")


def test_a_score_is_taken_as_it_is() -> None:
    score = Score(*(torch.tensor([0.2, 0.9]) for _ in range(2)), torch.tensor([False, True]), torch.tensor([-0.9, 0.2]))
    assert checked_score(score, 2, "red") is score
