"""Several runs over the same prompts: statistics against enumeration, tables, the page, and what is refused."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest

from tests.runs.browser import chromium, opened
from tests.runs.report_runs import HOSTILE, make_run
from vhs.errors import RunError
from vhs.files import read_json, write_json
from vhs.runs.compare import compare
from vhs.runs.report.compare_tables import as_latex, as_markdown, latex_text
from vhs.runs.report.data import read_run
from vhs.runs.report.paired import (
    OVER_PROMPTS,
    compare_runs,
    mcnemar,
    quality_over_cost,
    read_costs,
    seed_draws,
    systems,
    time_cost,
)
from vhs.runs.tables import summary


def picks(root: Path, prompts: int) -> np.ndarray:
    """The verdict on every pick, from the folder."""
    run = read_run(root).table
    return np.array([run.rows[i][run.winners[i]]["correct"] for i in range(prompts)], dtype=float)


@pytest.fixture
def pair(tmp_path: Path) -> list[Path]:
    """Two runs with different verifiers over the same 48 prompts."""
    return [
        make_run(tmp_path, "sharp", 48, 4, skill=1.2, vision_tower="hidden_7"),
        make_run(tmp_path, "blunt", 48, 4, skill=0.2, vision_tower="latent"),
    ]


def test_differences_are_paired_and_mcnemar_counts_discordant_prompts(pair: list[Path]) -> None:
    found = compare_runs([read_run(root) for root in pair])
    sharp, blunt = (picks(root, 48) for root in pair)
    one = found.differences[0]
    value, low, high = one.rates[OVER_PROMPTS]
    assert value == pytest.approx((blunt - sharp).mean()) and low < value < high
    assert (one.only_first, one.only_second) == (((sharp > blunt).sum()), ((sharp < blunt).sum()))
    unpaired = np.hypot(*(np.diff(found.rates[name][OVER_PROMPTS][1:])[0] for name in ("sharp", "blunt")))
    assert high - low < unpaired
    assert found.rates["sharp"]["counting"][0] == pytest.approx(sharp[2::6].mean())


def test_mcnemar_is_the_exact_binomial_test() -> None:
    assert mcnemar(0, 0) == 1.0 and mcnemar(3, 3) == 1.0
    assert mcnemar(0, 6) == pytest.approx(2 / 2**6) and mcnemar(6, 0) == mcnemar(0, 6)


def test_a_run_against_itself_differs_by_nothing(tmp_path: Path) -> None:
    roots = [make_run(tmp_path, name, 24, 4, skill=0.5, vision_tower=name) for name in ("one", "two")]
    found = compare_runs([read_run(root) for root in roots]).differences[0]
    assert set(found.rates.values()) == {(0.0, 0.0, 0.0)} and found.p_value == 1.0


def test_runs_that_differ_in_their_seed_are_one_system_and_seeds_are_drawn(tmp_path: Path) -> None:
    roots = [
        make_run(tmp_path, f"{name}_seed{seed}", 24, 4, seed=seed, skill=skill, vision_tower=name)
        for name, skill in (("sharp", 0.8), ("blunt", 0.2))
        for seed in (1, 2, 3)
    ]
    runs = [read_run(root) for root in roots]
    found = compare_runs(runs)
    assert [(system.title, system.seeds) for system in found.systems] == [("sharp", [1, 2, 3]), ("blunt", [1, 2, 3])]
    mean = np.mean([picks(root, 24).mean() for root in roots[:3]])
    assert found.rates["sharp"][OVER_PROMPTS][0] == pytest.approx(mean)
    assert found.differences[0].p_value is None
    first, second = seed_draws(found.systems)
    assert first is second and (first.sum(axis=1) == 3).all() and first.std() > 0
    assert [system.title for system in systems(runs[:3])] == ["sharp_seed1", "sharp_seed2", "sharp_seed3"]


def test_a_dev_run_and_its_prod_twin_are_told_what_the_early_exit_saved(tmp_path: Path) -> None:
    dev, prod = (make_run(tmp_path, mode, 6, 4, mode=mode) for mode in ("dev", "prod"))
    for root in (dev, prod):
        rows = [read_run(root).table.rows[i][read_run(root).table.winners[i]] for i in range(6)]
        best = [{**row, "filename": row["filename"].replace("img", "best")} for row in rows]
        write_json(root / f"gen_eval_{root.name}" / "best_annotations_proc_made_id_proc_0.json", best)
    write_json(dev / "summary.json", summary(read_run(dev).table))
    said = compare([prod, dev]).splitlines()
    assert said[0].startswith("dev finishes and judges every candidate") and "6 of 6 prompts" in said[2]
    assert said[-3].startswith("right pictures: one candidate ") and "a perfect pick " in said[-3]
    assert said[-2].startswith("the early exit: ") and said[-1] == str(dev / "report.html")
    other = make_run(tmp_path, "other", 6, 4, mode="prod", vision_tower="latent")
    assert compare([dev, other]).startswith("dev, other: 6 prompts in common")


def test_everything_is_written_and_the_last_line_is_the_page(pair: list[Path], tmp_path: Path) -> None:
    costs = tmp_path / "costs.json"
    write_json(costs, {"sharp": {"TFLOP": [12.1, 2.1]}, "blunt": {"TFLOP": [1, 12]}})
    text = compare(pair, tmp_path / "out", costs)
    assert text.splitlines()[-1] == str(tmp_path / "out" / "compare.html")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        *(f"compare.{suffix}" for suffix in ("html", "csv", "md", "tex")),
        *(
            f"{name}.{kind}"
            for name in ("curves", "quality_over_TFLOP", "quality_over_ms_per_prompt")
            for kind in ("png", "pdf")
        ),
    }
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "compare.csv").read_text())))
    last = next(row for row in rows if row["run"] == "blunt" and row["tag"] == OVER_PROMPTS)
    assert float(last["pick"]) == pytest.approx(picks(pair[1], 48).mean()) and last["against"] == "sharp"
    assert float(last["mcnemar_p"]) < 0.05


def test_tables_escape_names(tmp_path: Path) -> None:
    runs = [read_run(make_run(tmp_path, name, 12, 4, vision_tower=name)) for name in ("a_b", "c|d")]
    found = compare_runs(runs)
    assert r"& a\_b & c|d \\" in as_latex(found) and as_latex(found).count(r"\midrule") == 4
    assert r"| a\_b | c\|d |" in as_markdown(found)
    assert latex_text("50 % & {x}_1 \\ #$~^<>") == (
        r"50 \% \& \{x\}\_1 \textbackslash{} \#\$\textasciitilde{}\textasciicircum{}\textless{}\textgreater{}"
    )


def test_cost_is_paid_once_after_the_pick_and_per_candidate_before_it(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path, "made", 6, 4))
    once, each = time_cost(run)
    assert once == pytest.approx(10 + 40 + 50) and each == pytest.approx(20 + 30 / 4)
    found = compare_runs([run, read_run(make_run(tmp_path, "other", 6, 4, vision_tower="x"))])
    points = quality_over_cost(found, {"other": {"GB": (3, 1)}})
    assert [n for _, _, n in points["ms per prompt"]["made"]] == [1, 2, 4]
    assert [cost for cost, _, _ in points["GB"]["other"]] == [4, 5, 7]


def test_runs_that_do_not_go_together_are_refused(pair: list[Path], tmp_path: Path) -> None:
    with pytest.raises(RunError, match="one run alone; give the folders of two or more"):
        compare(pair[:1])
    with pytest.raises(RunError, match=r"few: 6 prompts where .*sharp has 48; compare runs over the same prompts"):
        compare([pair[0], make_run(tmp_path, "few", 6, 4)])
    other = make_run(tmp_path, "texts", 48, 4, texts=("a cat",))
    with pytest.raises(
        RunError, match=r"texts: prompt 0 is 'a cat' where .*sharp has 'a photo of single_object number 0'"
    ):
        compare([pair[0], other])
    with pytest.raises(RunError, match=r"costs.json: not a file of costs"):
        (tmp_path / "costs.json").write_text('{"a": 3}')
        read_costs(tmp_path / "costs.json")


def test_an_interrupted_run_is_compared_on_what_it_has_and_marked(pair: list[Path], tmp_path: Path) -> None:
    part = make_run(tmp_path, "part", 48, 4, done=12)
    text = compare([pair[0], part], tmp_path / "out")
    assert "12 prompts in common" in text and "PARTIAL: a run is not finished" in text
    assert "Partial: a run is not finished" in (tmp_path / "out" / "compare.html").read_text()


def test_unjudged_runs_are_shown_side_by_side_without_rates(tmp_path: Path) -> None:
    roots = [make_run(tmp_path, name, 3, 2, vision_tower=name) for name in ("one", "two")]
    for root in roots:
        for file in root.glob("gen_eval_*/*/samples/*_metadata.json"):
            write_json(
                file, {key: value for key, value in read_json(file).items() if key not in ("tag", "correct", "reason")}
            )
    assert compare(roots, tmp_path / "out").startswith("one, two: 3 prompts in common, 0 judged in every run")
    assert "Right picks" not in (tmp_path / "out" / "compare.html").read_text()


def test_the_page_shows_where_one_run_was_right_and_the_other_wrong(tmp_path: Path) -> None:
    roots = [
        make_run(tmp_path, name, 48, 4, skill=skill, vision_tower=name, texts=HOSTILE)
        for name, skill in (("sharp", 1.2), ("blunt", 0.2))
    ]
    compare(roots, tmp_path / "out")
    sharp, blunt = (picks(root, 48) for root in roots)
    with chromium() as browser:
        page = opened(browser, tmp_path / "out" / "compare.html")
        page.select_option("#show", label="sharp right, blunt wrong")
        shown = page.eval_on_selector_all(".row:not([hidden])", "rows => rows.map(row => Number(row.dataset.id))")
        assert shown == np.flatnonzero(sharp > blunt).tolist() and 0 < len(shown) < 48
        row = page.locator(f"#prompt-{shown[0]}")
        row.scroll_into_view_if_needed()
        page.wait_for_selector(f"#prompt-{shown[0]} .tile:nth-child(2)")
        assert row.locator(".tile .by").all_text_contents() == ["sharp", "blunt"]
        assert row.locator(".tile .caption span").all_text_contents() == ["✓", "✗"]
        row.locator(".tile button").last.click()
        facts = page.inner_text("#opened-facts")
        assert re.search(r"run\s+blunt", facts) and page.problems == []
