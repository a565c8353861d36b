"""Tables from run folders: cells, formats, what is refused, and what the missing runs take."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.runs.report_runs import make_run
from vhs.commands import main
from vhs.errors import ConfigError, RunError
from vhs.files import read_json, write_json
from vhs.paper import plan, rows
from vhs.paper.budgets import candidates
from vhs.paper.build import build
from vhs.paper.formats import rendered
from vhs.paper.published import Published, Table
from vhs.paper.rows import Asked, rows_of
from vhs.runs.report.data import read_run

SHOWN = Table(
    "small",
    "Small: two verifiers",
    "none",
    [
        Published(
            config="sharp", row="sharp & new", budget_ms=550, best_of=4, paper={"overall": 3.0, "counting": 50.0}
        ),
        Published(config="blunt", row="blunt", budget_ms=1100),
        Published(config="gone", row="of another world"),
    ],
)
KEYS = {"ckpt": "none", "latent_verifier_name": "made", "dtype": "float32", "num_samples": 4, "seeds": [1, 2]}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Two rows of a world of their own; `world(name, ...)` makes a row's runs, as `make_run` does."""
    monkeypatch.setitem(rows.WORLDS, "paper", tmp_path)
    for name in ("sharp", "blunt"):
        keys = {**KEYS, "name": name, "output_path": str(tmp_path / "out"), "generation_mode": "dev"}
        (tmp_path / f"{name}.yaml").write_text(f"# Weights: yours.\n{yaml.safe_dump(keys)}")

    def make(name: str, seeds=(1, 2), prompts: int = 12, **keys) -> list[Path]:
        made = [
            make_run(tmp_path / "out" / name, f"{name}_seed_{seed}", prompts, 4, seed=seed, **keys) for seed in seeds
        ]
        for root in made:
            write_json(root / "summary.json", {})
        return made

    return make


def built(**asked):
    return build(SHOWN, rows_of(SHOWN, Asked(**asked)), compared=True)


def test_cells_are_means_over_seeds_beside_the_papers_figures(world) -> None:
    roots = world("sharp", skill=0.8)
    table = built()
    line = table.lines[0]
    own = []
    for root in roots:
        run = read_run(root).table
        own.append([run.rows[i][run.winners[i]]["correct"] for i in range(12)])
    overall = line.cells["mean over prompts"]
    assert overall.ours.mean == pytest.approx(np.mean(own)) and line.seeds == [1, 2] and line.num_samples == 4
    assert overall.difference == pytest.approx(100 * np.mean(own) - 3) and overall.excluded
    assert not line.cells["counting"].excluded and line.cells["position"].published is None
    assert [row.name for row in table.missing] == ["blunt"] and [row.config for row in table.absent] == ["gone"]


def test_a_table_is_written_in_every_format(world) -> None:
    world("sharp", skill=0.8)
    table = [built()]
    text = rendered(table, "txt")
    assert text.startswith("Small: two verifiers (12 prompts, 2 seeds)\n") and "Not run yet: blunt" in text
    assert "This world has no gone." in text and ")*" in text
    markdown = rendered(table, "md")
    assert "| sharp & new | 4 | 550 ms | " in markdown and markdown.startswith("## Small: two verifiers")
    assert {line.count(" | ") for line in markdown.splitlines() if line.startswith("| ")} == {10}
    latex = rendered(table, "tex")
    assert r"sharp \& new & 4 & 550 ms & " in latex and r"\bottomrule" in latex and "\n% Mean and" in latex
    found = list(csv.DictReader(io.StringIO(rendered(table, "csv"))))
    assert len(found) == 8 and found[-1]["column"] == "mean over prompts" and found[-1]["seeds"] == "1 2"
    assert float(found[-1]["difference"]) == pytest.approx(100 * float(found[-1]["mean"]) - 3, abs=1e-9)


def test_a_row_without_any_published_figure_is_named(world) -> None:
    world("sharp"), world("blunt")
    assert "data/paper_results.yaml has no figure for blunt." in rendered([built()], "txt")


def test_a_table_without_a_run_says_how_to_make_one(world) -> None:
    with pytest.raises(RunError, match=r"small: no row of it has been run .*--plan says what that takes, --run does"):
        built()


def test_runs_over_different_prompts_are_refused(world) -> None:
    world("sharp"), world("blunt", prompts=18)
    with pytest.raises(RunError, match="blunt_seed_1: 18 prompts where .*sharp_seed_1 has 12"):
        built()


def test_a_folder_of_another_run_is_refused(world) -> None:
    world("sharp", fmt="jpg")
    with pytest.raises(RunError, match=r"sharp_seed_1: made with fmt jpg where the row has png; move it away"):
        built()


def test_a_run_without_verdicts_is_refused_by_what_it_lacks(world) -> None:
    for root in world("sharp"):
        for file in root.rglob("*_metadata.json"):
            write_json(file, {key: value for key, value in read_json(file).items() if key not in ("tag", "correct")})
    with pytest.raises(RunError, match="sharp_seed_1: no pick has a verdict of GenEval, which a table needs"):
        built()
    world("blunt", prompts=4)
    with pytest.raises(RunError, match="blunt_seed_1: no prompt is of position, which a table needs"):
        build(SHOWN, rows_of(replace(SHOWN, rows=SHOWN.rows[1:]), Asked()), compared=True)


def test_a_run_with_one_pick_that_was_not_judged_is_refused(world) -> None:
    for root in world("sharp"):
        for file in (root / f"gen_eval_{root.name}" / "00001").rglob("*_metadata.json"):
            write_json(file, {key: value for key, value in read_json(file).items() if key != "correct"})
    with pytest.raises(RunError, match="sharp_seed_1: the pick of prompt 1 has no verdict of GenEval, which a table"):
        built()


def test_an_unfinished_run_is_missing_and_its_progress_told(world, tmp_path: Path) -> None:
    world("sharp", seeds=(1,))
    make_run(tmp_path / "out" / "sharp", "sharp_seed_2", 12, 4, seed=2, done=5)
    row = rows_of(SHOWN, Asked())[0]
    assert [one.seed for one in row.missing()] == [2] and plan.progress(row.missing()[0]) == "5 of 12 prompts"
    assert [one.seed for one in rows_of(SHOWN, Asked(seeds=3))[1].missing()] == [1, 2, 3]


def test_a_plan_prices_what_can_run_and_says_why_the_rest_cannot(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    words = ["tables", "--table", "table5", "--plan", "--seeds", "2", "output_path=outputs/none"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "scoring_vhs_none: seeds 42 43\n  python inference_scripts/run.py --config configs/paper/scoring_vhs" in said
    assert "scoring_vhs_none.yaml output_path=outputs/none 'seeds=[42, 43]'\n  12.7 GB to be fetched, " in said
    assert "main_1100_ae: seeds 42 43\n  cannot run: latent_verifier_path: outputs/training/" in said
    assert "6 rows with 12 missing runs, 4 can run: 15.4 GB to be fetched, " in said and " 1.4 GPU hours" in said


def test_missing_runs_are_made_and_a_row_that_cannot_run_keeps_none_waiting(world) -> None:
    made, said = [], []

    def carry_out(config) -> str:
        made.append(config.name)
        if config.name == "sharp":
            raise RunError("sharp: no such thing")
        world("blunt")
        return "done"

    plan.make(rows_of(SHOWN, Asked()), carry_out, lambda row: 0, said.append)
    assert made == ["sharp", "blunt"] and said == ["sharp cannot run: sharp: no such thing\n  Weights: yours.", "done"]


@pytest.fixture
def multiples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    """A table of the tiny world with one row, whose budget is 2.75 times a single candidate's time."""
    monkeypatch.setitem(rows.WORLDS, "tiny", tmp_path)
    keys = {**KEYS, "output_path": str(tmp_path / "out"), "generation_mode": "dev"}
    for name in ("sharp", rows.SINGLE):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({**keys, "name": name}))
    return replace(SHOWN, rows=SHOWN.rows[:1])


def test_a_budget_in_multiples_is_measured_once_and_kept(multiples: Table, tmp_path: Path) -> None:
    row = rows_of(multiples, Asked("tiny"))[0]
    planned = plan.as_text([plan.Planned(row, row.missing(), None)])
    assert row.unmeasured and row.multiple == 2.75 and "its N is measured first: what 2.75 times" in planned
    begun = []

    def carry_out(config) -> str:
        begun.append(config.num_samples)
        make_run(tmp_path / "out" / "sharp", "sharp_seed_1", 6, config.num_samples, seed=1, done=2)
        return ""

    plan.make([row], carry_out, lambda row: 3, begun.append)
    again = rows_of(multiples, Asked("tiny"))[0]
    assert begun[0] == 3 == again.config.num_samples and not again.unmeasured
    assert [one.num_samples for one in again.missing()] == [3, 3]


def test_rows_that_differ_in_how_they_choose_take_the_same_number_of_candidates(multiples: Table) -> None:
    row = rows_of(multiples, Asked("tiny"))[0]
    other = replace(row, config=row.config.changed(name="blunt", selection="random_yes"))
    dearer = replace(row, config=row.config.changed(name="dear", dtype="bfloat16"))
    measured, begun = [], []

    def carry_out(config) -> str:
        begun.append((config.name, config.num_samples))
        return ""

    plan.make([row, other, dearer], carry_out, lambda row: measured.append(row) or 2 + len(measured), begun.append)
    assert [one for one in begun if one] == [("sharp", 3), ("blunt", 3), ("dear", 4)] and measured == [row, dearer]


@pytest.fixture
def timed(run_keys, tmp_path: Path, monkeypatch) -> Callable[[float], tuple[int, str]]:
    """Of a verifier's milliseconds beside 6 for each candidate, N at 2.75 times a single one's 10, and what is said.

    The machine takes twice as long from every sixth call on for the next six."""
    monkeypatch.setitem(rows.WORLDS, "tiny", tmp_path)
    (tmp_path / "sharp.yaml").write_text(yaml.safe_dump({**run_keys, "name": "sharp"}))
    alone = {"num_samples": 1, "latent_verifier": False, "name": rows.SINGLE}
    (tmp_path / f"{rows.SINGLE}.yaml").write_text(yaml.safe_dump({**run_keys, **alone}))

    def measured(verifier: float) -> tuple[int, str]:
        calls = itertools.count()

        def once(work, device):
            result, slower = work(), 1 + next(calls) // 6 % 2
            return slower * (10.0 if result.score is None else verifier + 6.0 * result.num_samples)

        monkeypatch.setattr("vhs.measure.latency.once", once)
        asked, said = Asked("tiny"), []
        row = rows_of(replace(SHOWN, rows=SHOWN.rows[:1]), asked)[0]
        return candidates(row, rows.single(asked), said.append), said[0]

    return measured


def test_the_number_of_candidates_is_what_fits_beside_a_single_one_on_a_busy_machine(timed) -> None:
    """4 ms and 6 for each candidate: three take 22 ms, four 28."""
    assert timed(4.0) == (3, "sharp: 2.75 times a single candidate's time buys 3 candidates (2.20 times)")


def test_a_budget_that_buys_no_candidate_is_said(timed) -> None:
    with pytest.raises(ConfigError, match="sharp: 2.75 times .* buys none; one takes 3.00 times"):
        timed(24.0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--table", "tabel5"], "--table: no table 'tabel5'; did you mean table5"),
        (["--table", "main", "--rows", "main_vhs"], "--rows: main has no row 'main_vhs'; did you mean main_"),
        (["--table", "main", "--seeds", "0"], "--seeds: 0 is no number of seeds; 1 or more is needed"),
        (["--table", "main", "--out", "table.doc"], "--out: table.doc: a table is written as .txt, .md, .tex, .csv"),
        (["--table", "main", "output_path=outputs/none"], "main: no row of it has been run"),
        (["--table", "main", "--rows", "main_1100_vhs", "output_path=outputs/none"], "main: no row of it has been run"),
        (["--table", "main", "sead=3"], "command line: sead: unknown key; did you mean seed"),
    ],
)
def test_a_mistake_is_one_line(words, message: str, capsys) -> None:
    assert main(["tables", *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and message in said and said.count("\n") == 1
