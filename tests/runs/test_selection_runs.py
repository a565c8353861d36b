"""Runs that keep several candidates, rerank, ensemble, or take scores from a file or a class of the user's own."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vhs.config.run import RunConfig
from vhs.errors import ConfigError, ImageError, RunError, VHSError
from vhs.files import read_json
from vhs.geneval.folders import export
from vhs.runs.runner import run
from vhs.runs.scoring import score_run
from vhs.runs.verifiers_table import compare_verifiers
from vhs.verifiers.score_file import picture_hash, read_score_file

OWN = """
import numpy as np

LATENT_VERIFIER = {
    "red": {"class": "MODULE:Red", "kwargs": {"sign": 1}},
    "blue": {"class": "MODULE:Red", "kwargs": {"sign": -1}},
    "pairs": {"class": "MODULE:Pairs"},
    "broken": {"class": "MODULE:Broken"},
    "file": {"kind": "scores", "scores": "scores.jsonl"},
    "clip": {"kind": "clip_score", "latent_verifier_path": "ckpts/tiny/color_clip"},
}

class Red:
    reads = "image"
    def __init__(self, sign):
        self.sign = sign
    def score(self, prompt, pictures):
        return [self.sign * float(np.asarray(one)[..., 0].mean()) for one in pictures]

class Pairs:
    reads = "image"
    def compare(self, prompt, a, b):
        return np.asarray(a)[..., 0].mean() > np.asarray(b)[..., 0].mean()

class Broken:
    reads = "image"
    def score(self, prompt, pictures):
        return [float("nan")] * len(pictures)
"""


@pytest.fixture
def keys(run_keys: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    module = f"own_{tmp_path.name}"
    (tmp_path / f"{module}.py").write_text(OWN.replace("MODULE", module))
    yield {**run_keys, "registry": str(tmp_path / f"{module}.py")}
    sys.modules.pop(module, None)


def made(keys: dict[str, Any], **more: Any) -> Path:
    """Runs, and returns the folder."""
    config = RunConfig(**{**keys, **more})
    run(config, say=lambda line: None, bar=False)
    return Path(config.output_path) / config.name


def rows(folder: Path, prompt: int = 0) -> list[dict[str, Any]]:
    return [
        read_json(file) for file in sorted((next(folder.glob("gen_eval_*")) / f"{prompt:05d}").rglob("*_metadata.json"))
    ]


def named(keys: dict[str, Any], name: str | None) -> dict[str, Any]:
    """The keys with a verifier of the registry instead."""
    own = ("latent_verifier_path", "vision_tower", "normalization_mean_path", "normalization_variance_path")
    return {**{key: value for key, value in keys.items() if key not in own}, "latent_verifier_name": name}


def test_several_picks_are_saved_and_judged_and_their_mean_is_reported(keys, judge_keys) -> None:
    folder = made({**keys, **judge_keys}, selection={"top_k": 2})
    found = rows(folder)
    places = [row["pick"] for row in found]
    assert sorted(place for place in places if place is not None) == [0, 1]
    assert ["correct" in row for row in found] == [place is not None for place in places]
    best = sorted(range(4), key=lambda index: -found[index]["score"])[:2]
    assert [places[index] for index in best] == [0, 1]
    samples = next(folder.glob("gen_eval_*")) / "00000" / "samples"
    assert sorted(file.stem for file in samples.glob("img_*")) == sorted(f"img_{index:05d}" for index in best)
    assert [file.stem for file in samples.glob("best_*")] == [f"best_{best[0]:05d}"]
    overall = read_json(folder / "summary.json")["overall"]["overall_prompts"]
    assert overall["mean_of_picks"] is not None and overall["mean_of_candidates"] is None


def test_a_cascade_records_both_verifiers_and_saves_the_winner_alone(keys) -> None:
    folder = made(keys, rerank={"verifier": "red", "keep": 2})
    found = rows(folder)
    kept = [index for index, row in enumerate(found) if row["rerank_score"] is not None]
    assert kept == sorted(sorted(range(4), key=lambda index: -found[index]["score"])[:2])
    winner = max(kept, key=lambda index: found[index]["rerank_score"])
    samples = next(folder.glob("gen_eval_*")) / "00000" / "samples"
    assert [file.stem for file in samples.glob("img_*")] == [f"img_{winner:05d}"] and "pick" not in found[0]
    manifest = read_json(folder / "run.json")
    assert manifest["reranker"]["kwargs"] == {"sign": 1} and "rerank: class" in manifest["checkpoints"]
    assert manifest["verifier"] == {"kind": "llava", "reads": "hidden", "block": 7}
    again = made(keys, rerank={"verifier": "red", "keep": 2}, re_eval=True)
    assert rows(again) == found


def test_an_ensemble_of_two_opposites_ties_everyone(keys) -> None:
    folder = made(named(keys, None), ensemble=["red", "blue"])
    assert {row["score"] for row in rows(folder)} == {1.5} and rows(folder)[0]["p_yes"] is None
    assert next(folder.glob("gen_eval_*")).glob("all_annotations_proc_red+blue_id_proc_0.json")


def test_a_run_by_an_ensemble_of_hidden_state_verifiers_is_judged_again(keys, tmp_path) -> None:
    own = ("latent_verifier_path", "vision_tower", "resize_vocabulary")
    entry = {name: keys[name] for name in own}
    (tmp_path / "two.py").write_text(f"LATENT_VERIFIER = {{'a': {entry!r}, 'b': {entry!r}}}\n")
    kept = {key: value for key, value in keys.items() if key not in own} | {"registry": str(tmp_path / "two.py")}
    folder = made(kept, ensemble=["a", "b"])
    before = rows(folder)
    assert sorted(row["score"] for row in before) == [0, 1, 2, 3], "ranks of four candidates"
    assert rows(made(kept, ensemble=["a", "b"], re_eval=True)) == before


def test_a_class_that_only_compares_plays_a_tournament(keys) -> None:
    folder = made(named(keys, "pairs"), selection={"tournament": 1}, generation_mode="dev")
    assert sorted(row["score"] for row in rows(folder)) == [0, 0, 1, 2]
    by_score = made(named(keys, "red"), name="red", generation_mode="dev")
    winners = [max(rows(one), key=lambda row: row["score"])["gen_idx_gt"] for one in (folder, by_score)]
    assert winners[0] == winners[1]


def test_scores_of_a_dev_run_drive_a_prod_run_that_reads_nothing(keys, tmp_path, monkeypatch) -> None:
    dev = made(named(keys, "red"), name="dev", generation_mode="dev")
    lines = []
    for prompt in range(3):
        for index, row in enumerate(rows(dev, prompt)):
            line = {"prompt_id": prompt, "candidate": index, "score": row["score"], "prompt": row["prompt"]}
            lines.append(line | {"sha256": picture_hash(Path(row["filename"]))})
    (tmp_path / "scores.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    prod = made(named(keys, "file"), name="prod")
    for prompt in range(3):
        scores = [row["score"] for row in rows(prod, prompt)]
        assert scores == pytest.approx([row["score"] for row in rows(dev, prompt)])
        samples = next(prod.glob("gen_eval_*")) / f"{prompt:05d}" / "samples"
        assert [file.stem for file in samples.glob("img_*")] == [f"img_{scores.index(max(scores)):05d}"]
    saved = made(named(keys, "file"), name="saved", imgs_path=str(next(dev.glob("gen_eval_*"))))
    assert [row["score"] for row in rows(saved)] == pytest.approx([row["score"] for row in rows(dev)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"rerank": {"verifier": "tiny_hidden_7", "keep": 2}},
            "rerank: tiny_hidden_7 reads hidden features; the second",
        ),
        ({"rerank": {"verifier": "random", "keep": 2}}, "rerank: random reads nothing; the second verifier"),
        ({"rerank": {"verifier": "rad", "keep": 2}}, "no verifier 'rad'; did you mean"),
        ({"rerank": {"verifier": "red", "keep": 5}}, "rerank: keep is 5, but there are 4 candidates"),
        ({"rerank": {"verifier": "red"}}, "rerank: {'verifier': 'red'}: {verifier: <name>, keep:"),
        ({"rerank": "red"}, "rerank: 'red': {verifier: <name>, keep:"),
        (
            {"rerank": {"verifier": "pairs", "keep": 2}},
            "pairs has no score, it only compares; set selection: {tournament",
        ),
        ({"selection": {"top_k": 5}}, "selection: top_k: 5 of 4 candidates; 1 to 4 can be kept"),
        ({"selection": {"tournament": 3}}, "4/3 must be a power of two"),
        ({"selection": {"best": 3}}, "argmax, random_yes, {top_k: 4} or {tournament: 4} is right"),
        ({"name": "pairs"}, "selection: pairs has no score, it only compares"),
        ({"name": "file"}, "scores missing: prompt 0 candidate 1"),
        ({"name": "clip", "selection": "random_yes"}, "random_yes needs a verifier that answers yes or no; clip_score"),
        ({"ensemble": ["red", "tiny_hidden_7"]}, "ensemble: red reads image and tiny_hidden_7 reads hidden (block 7)"),
        ({"ensemble": ["red", "none"]}, "ensemble: none gives no score"),
        ({"name": "broken"}, "candidate 0 has score nan"),
    ],
)
def test_what_cannot_be_chosen_is_one_line_and_leaves_no_picture(changes, message, keys, tmp_path) -> None:
    (tmp_path / "scores.jsonl").write_text('{"prompt_id": 0, "candidate": 0, "score": 1}\n')
    if "ensemble" in changes:
        keys = named(keys, None)
    elif "name" in changes:
        keys = named(keys, changes.pop("name"))
    with pytest.raises(VHSError) as error:
        from vhs.config.yamlfile import build

        run(build(RunConfig, {**keys, **changes}), say=lambda line: None, bar=False)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not list((tmp_path / "out").rglob("*.png"))


def test_a_run_is_scored_again_from_its_seeds_and_from_its_pictures(keys, judge_keys) -> None:
    folder = made({**keys, **judge_keys}, generation_mode="dev", name="dev")
    own = "vhs-tiny-hidden"
    files = score_run(folder, [own, "red", "random"], say=lambda line: None)
    assert [file.name for file in files] == ["vhs-tiny-hidden.jsonl", "red.jsonl", "random.jsonl"]
    again = [row.score for row in read_score_file(files[0])]
    kept = [row["score"] for prompt in range(3) for row in rows(folder, prompt)]
    assert again == pytest.approx(kept, abs=1e-5)
    red = [row.score for row in read_score_file(files[1])]
    assert len(red) == 12 and len(set(red)) > 1 and read_score_file(files[1])[0].values["sha256"]
    found = compare_verifiers([folder], [own, "red", "random"])
    assert (found.prompts, found.candidates, len(found.verifiers), len(found.pairs)) == (3, 4, 3, 3)
    with pytest.raises(RunError, match="blue.jsonl: missing; write it with: vhs score .* --verifiers blue"):
        compare_verifiers([folder], [own, "blue"])


def test_a_run_of_winners_has_no_pictures_to_score(keys) -> None:
    folder = made(keys)
    with pytest.raises(
        RunError, match="9 pictures are missing .*red reads those of every candidate.*generation_mode: dev"
    ):
        score_run(folder, ["red"], say=lambda line: None)
    with pytest.raises(ConfigError, match="none: gives no scores"):
        score_run(folder, ["none"], say=lambda line: None)


def test_an_exported_folder_and_another_format_are_taken_by_imgs_path(keys, judge_keys, tmp_path) -> None:
    source = made({**keys, **judge_keys}, generation_mode="dev", name="dev")
    export(source, tmp_path / "exported")
    plain = named({**keys, **judge_keys}, "red")
    read = made(plain, name="read", num_samples=1, imgs_path=str(tmp_path / "exported"), fmt="jpg")
    samples = next(read.glob("gen_eval_*")) / "00001" / "samples"
    assert Image.open(samples / "img_00000.jpg").format == "JPEG" and "correct" in rows(read, 1)[0]
    whole = made(plain, name="whole", imgs_path=str(source), selection={"top_k": 2}, generation_mode="dev")
    assert sorted(row["pick"] for row in rows(whole) if row["pick"] is not None) == [0, 1]
    with pytest.raises(
        ImageError, match="exported: num_samples is 2, but 00000 has 1, 00001 has 1, 00002 has 1; <prompt"
    ):
        made(plain, name="more", num_samples=2, imgs_path=str(tmp_path / "exported"))
    assert not (tmp_path / "out" / "more").exists()


def test_ids_of_a_prompt_table_are_kept(keys, tmp_path) -> None:
    (tmp_path / "mine.csv").write_text("id,prompt\nx7,a cat\ny9,two dogs\n")
    folder = made(named(keys, "random"), annotation=str(tmp_path / "mine.csv"), num_samples=1)
    records = [json.loads(file.read_text()) for file in sorted(folder.rglob("metadata.jsonl"))]
    assert records == [{"prompt": "a cat", "id": "x7"}, {"prompt": "two dogs", "id": "y9"}]
