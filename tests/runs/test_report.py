"""What a report reads and computes, and what its file holds."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.runs.report_runs import HOSTILE, make_run
from vhs.errors import RunError
from vhs.geneval.summary import wilson
from vhs.runs.report import analysis
from vhs.runs.report.data import read_run
from vhs.runs.report.figures import calibration_figure
from vhs.runs.report.page import write_report
from vhs.runs.report.pictures import thumbnails
from vhs.runs.report.rows import score_order
from vhs.runs.report.summary import meta, numbers, save_figures, score_meaning, tag_rows
from vhs.runs.tables import summary


def test_the_curve_is_the_mean_over_all_subsets(tmp_path: Path) -> None:
    table = analysis.judged(read_run(make_run(tmp_path, prompts=7, candidates=5, skill=0.5)).table)
    table.scores[0, 1] = table.scores[0, 3] = table.scores[0].max()  # a tie goes to the first
    rows = analysis.curve(table)
    for n in range(1, 6):
        picks, oracles = [], []
        for scores, right in zip(table.scores, table.right, strict=True):
            chosen = [list(subset) for subset in combinations(range(5), n)]
            picks.append(np.mean([right[subset][np.argmax(scores[subset])] for subset in chosen]))
            oracles.append(np.mean([right[subset].any() for subset in chosen]))
        assert rows[n - 1]["pick"][0] == pytest.approx(np.mean(picks), abs=1e-12)
        assert rows[n - 1]["oracle"][0] == pytest.approx(np.mean(oracles), abs=1e-12)
    low, high = rows[2]["pick"][1:]
    assert low < rows[2]["pick"][0] < high and rows[0]["pick"][0] == pytest.approx(rows[0]["mean"][0])


def test_bins_are_five_percent_wide_and_hold_every_candidate_once(tmp_path: Path) -> None:
    table = analysis.judged(read_run(make_run(tmp_path, prompts=20, candidates=4)).table)
    found = analysis.distribution(table)
    assert np.allclose(np.diff(found["edges"]), 0.05) and sum(found["right"]) + sum(found["wrong"]) == pytest.approx(1)
    assert sum(found["right"]) == pytest.approx(table.right.mean())
    wide = analysis.distribution(analysis.Judged(table.scores * 30, table.right, table.tags))
    assert wide["edges"][0] == pytest.approx(30 * table.scores.min())
    assert sum(wide["right"] + wide["wrong"]) == pytest.approx(1)


def test_wilson_s_interval_is_scipy_s() -> None:
    from scipy.stats import binomtest

    for right, count in ((0, 6), (3, 6), (6, 6), (200, 553)):
        expected = binomtest(right, count).proportion_ci(method="wilson")
        assert wilson(right, count) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_tags_bound_the_bootstrap(tmp_path: Path) -> None:
    """Every prompt of a tag alike: no draw within tags differs, so the interval is a point."""
    assert (analysis.prompt_draws(["a", "a", "b"]).sum(axis=1) == 3).all()
    assert (analysis.prompt_draws(["a", "a", "b"])[:, 2] == 1).all()
    values = np.array([[1.0], [1.0], [0.0]])
    assert analysis.interval(values, analysis.prompt_draws(["a", "a", "b"]))[0] == pytest.approx([2 / 3] * 3)


def test_the_numbers_on_top_are_the_summary_s(tmp_path: Path) -> None:
    data = read_run(make_run(tmp_path, prompts=24, candidates=4))
    values = summary(data.table)
    shown = {one["kind"]: one["value"] for one in numbers(data, values)}
    overall = values["overall"]["overall_prompts"]
    assert shown["pick"] == f"{100 * overall['pick']['value']:.1f} %"
    difference = overall["pick"]["value"] - overall["mean_of_candidates"]["value"]
    assert shown["gain"] == f"{100 * difference:+.1f}"
    assert [row["name"] for row in tag_rows(values)][-2:] == ["mean over prompts", "mean over tags"]


def test_a_prod_run_says_what_it_does_not_know(tmp_path: Path) -> None:
    root = make_run(tmp_path, mode="prod")
    data = read_run(root)
    assert not len(analysis.judged(data.table).scores) and analysis.reliability(data.table) is None
    text = write_report(root).read_text()
    assert "need generation_mode=dev" in text and "Best of n" not in text and "Time by stage" in text
    assert text.count('"gone":"not made in prod"') == 6 * 3


def test_scores_of_another_scale_and_no_scores_are_named(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path)).table
    assert "+p(yes) where it answers yes" in score_meaning(run)
    for rows in run.rows.values():
        for row in rows:
            row |= {"score": 3 * row["score"], "p_yes": None, "p_no": None, "correct_verifier": None}
    assert score_meaning(run) == "A score is the verifier's own number; the highest is picked."
    for rows in run.rows.values():
        for row in rows:
            row["score"] = None
    assert score_meaning(run).startswith("No verifier scored") and score_order(run.rows[0]) == [0, 1, 2, 3]


def test_an_interrupted_run_has_a_report_that_says_so(tmp_path: Path) -> None:
    root = make_run(tmp_path, prompts=9, done=4)
    assert "Partial: 4 of 9 prompts are complete." in write_report(root).read_text()
    whole = make_run(tmp_path, "whole", prompts=4)
    assert "Partial" not in write_report(whole).read_text()


def test_what_is_no_run_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="none: no such folder; give the folder of a run"):
        read_run(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=r"empty: no run.json in it, so it is no run of this project"):
        read_run(tmp_path / "empty")
    root = make_run(tmp_path, done=0)
    with pytest.raises(RunError, match="no prompt of this run is complete; go on with cont=true"):
        read_run(root)
    (root / "run.json").write_text("[]")
    with pytest.raises(RunError, match=r"run.json: Input should be a valid dictionary; a folder of a run"):
        read_run(root)


def test_the_page_is_one_file_that_asks_for_nothing_and_makes_no_prompt_markup(tmp_path: Path) -> None:
    text = write_report(make_run(tmp_path, texts=HOSTILE)).read_text()
    assert "default-src 'none'" in text and not re.search(r'(?:src|href)="(?!#)', re.sub(r"xlink:href", "", text))
    assert "onerror=&#34;" in text and text.count("<script>") == 1 and "<img" not in text
    assert "<!--" not in text


def test_the_same_run_has_the_same_report(tmp_path: Path) -> None:
    root = make_run(tmp_path)
    assert write_report(root).read_bytes() == write_report(root).read_bytes()


def test_pictures_fit_the_budget_and_are_never_enlarged(tmp_path: Path) -> None:
    files = [tmp_path / f"{i}.png" for i in range(12)]
    for i, file in enumerate(files[:-1]):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (200, 300, 3), dtype=np.uint8)).save(file)
    large, small = thumbnails(files), thumbnails(files, budget=60_000)
    assert large[-1] is None and small[-1] is None and sum(len(one.data) for one in small[:-1]) <= 60_000
    assert (large[0].width, large[0].height) == (300, 200)
    assert len(large[0].data) > 4 * len(small[0].data)


def test_figures_are_png_and_pdf(tmp_path: Path) -> None:
    paths = save_figures(read_run(make_run(tmp_path)), tmp_path / "figures")
    names = [f"{name}.{kind}" for name in ("curve", "distribution", "calibration", "cost") for kind in ("png", "pdf")]
    assert [path.name for path in paths] == names
    for path in paths:
        assert path.read_bytes().startswith(b"%PDF" if path.suffix == ".pdf" else b"\x89PNG")
    with Image.open(tmp_path / "figures" / "curve.png") as image:
        assert image.width == 920 and len(image.convert("RGB").getcolors(1_000_000)) > 10


def test_the_header_names_generator_verifier_prompts_and_seed(tmp_path: Path) -> None:
    line = meta(read_run(make_run(tmp_path, seed=7)))
    assert line.startswith("generator Sana-Sprint · verifier made · 6 prompts") and line.endswith("seed 7")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"latent_verifier_path": "mine/checkpoint"}, "verifier made (mine/checkpoint)"),
        ({"latent_verifier_name": None, "latent_verifier_path": "mine/checkpoint"}, "verifier mine/checkpoint"),
        ({"latent_verifier_name": None, "ensemble": ["a", "b"]}, "verifier a + b"),
        ({"latent_verifier": False}, "no verifier"),
    ],
)
def test_the_header_names_the_verifier_that_scored(tmp_path: Path, keys: dict, said: str) -> None:
    run = read_run(make_run(tmp_path))
    line = meta(replace(run, manifest={**run.manifest, "config": {**run.config, **keys}}))
    assert said in line.split(" · ")


def test_a_bin_that_is_all_right_or_all_wrong_draws_no_negative_bar() -> None:
    """Wilson's upper bound of 1 of 1, and the lower of 0 of 1, miss the share by a rounding error."""
    ends = [
        {"count": 3, "mean_p": 0.9, "right": 1.0, "below": 0.43, "above": 1.0 - 1e-16},
        {"count": 3, "mean_p": 0.1, "right": 0.0, "below": 1e-17, "above": 0.56},
    ]
    assert calibration_figure({"bins": ends}).axes[0].collections
