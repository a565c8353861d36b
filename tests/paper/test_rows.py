"""The shipped rows: each resolves as far as that goes without weights, and its header says what the data file does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vhs.config.run import load_config
from vhs.errors import ConfigError
from vhs.paper import plan
from vhs.paper.published import COLUMNS, OVER_TAGS, choose, read_tables
from vhs.paper.rows import WORLDS, Asked, rows_of

ROOT = Path(__file__).parents[2]
TABLES = read_tables()
# of a row that stands in several tables, the first one's figures, which its header states
PUBLISHED = {row.config: row for table in reversed(TABLES.values()) for row in table.rows}
FILES = {file.stem: file for file in (ROOT / WORLDS["paper"]).glob("*.yaml")}
TINY = sorted((ROOT / WORLDS["tiny"]).glob("*.yaml"))


def header(file: Path) -> str:
    lines = [line[2:] for line in file.read_text().splitlines() if line.startswith("# ")]
    return " ".join(lines)


def test_every_row_has_a_file_and_every_file_is_a_row() -> None:
    assert set(FILES) == set(PUBLISHED)
    assert {file.stem for file in TINY} <= set(PUBLISHED)


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_header_states_command_figures_and_hours(name: str) -> None:
    text, row, config = header(FILES[name]), PUBLISHED[name], load_config(FILES[name])
    assert f"python inference_scripts/run.py --config configs/paper/{name}.yaml" in text
    assert config.name == name and (row.best_of is None or config.num_samples == row.best_of)
    if row.paper:
        figures = [row.paper.get(name) for name in COLUMNS.values() if name]
        expected = f"Expected: {figures[-1]} overall"
        expected += f" ({', '.join(map(str, figures[:-1]))} by tag)." if None not in figures else "."
        assert expected in text
    else:
        assert "Expected: data/paper_results.yaml has no figure for it." in text
    each = row.budget_ms or plan.CANDIDATE_MS * config.num_samples
    assert f"GPU hours: {each * 553 * len(config.seeds) / 3.6e6:.2f}, an estimate: 553 prompts x " in text


@pytest.mark.parametrize("table", list(TABLES))
def test_a_row_resolves_or_names_the_training_of_its_weights(table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for one in plan.plan(rows_of(TABLES[table], Asked(seeds=1, overrides=("output_path=outputs/none",)))):
        said = " ".join(plan.weights(one.row))
        if one.blocked is None:
            assert said.startswith("Weights: published.") and one.prompts == 553, one.row.name
            continue
        assert "no such folder" in one.blocked and not said.startswith("Weights: published."), one.row.name
        for training in re.findall(r"configs/train/\S+\.yaml", said):
            assert (ROOT / training).is_file(), f"{one.row.name} names {training}"


@pytest.mark.parametrize("file", TINY, ids=lambda file: file.stem)
def test_a_row_of_the_tiny_world_loads_and_names_its_command(file: Path) -> None:
    config = load_config(file)
    assert config.name == file.stem and config.output_path == "outputs/tiny_tables" and config.seeds
    table = re.search(rf"tables.py --table (\w+) --world tiny --rows {re.escape(file.stem)} --run", header(file))[1]
    assert file.stem in {row.config for row in TABLES[table].rows}
    assert "Weights: " in header(file)


def test_the_data_file_is_checked(tmp_path: Path) -> None:
    def fails(text: str) -> str:
        (tmp_path / "data.yaml").write_text(text)
        with pytest.raises(ConfigError) as raised:
            read_tables(tmp_path / "data.yaml")
        return str(raised.value).removeprefix(f"{tmp_path}/")

    row = "tables: {main: {title: t, source: s, rows: [{config: a, row: A, paper: {%s: 3}}]}}"
    assert fails(row % "colour").startswith("data.yaml: main: a: colour is no column; one of single, two, counting")
    assert fails("tables: {main: {title: t}}").startswith("data.yaml: source: field required")
    assert fails("rows: []").startswith("data.yaml: not a file of tables; it holds tables:")
    with pytest.raises(ConfigError, match="none.yaml: cannot be read"):
        read_tables("none.yaml")


def test_a_table_or_row_that_does_not_exist_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="--table: no table 'tabel5'; did you mean table5"):
        choose("tabel5", [], TABLES)
    with pytest.raises(ConfigError, match="--table: no table 'zzz'; there are main, layers, .* and all"):
        choose("zzz", [], TABLES)
    with pytest.raises(ConfigError, match="--rows: layers has no row 'layers_h2'; did you mean layers_h"):
        choose("layers", ["layers_h2"], TABLES)
    some = choose("all", ["main_1100_vhs", "layers_h1"], TABLES)
    assert [len(table.rows) for table in some if table.name in ("main", "layers")] == [1, 2]


def test_the_papers_mean_over_tags_is_that_of_its_six_columns() -> None:
    """80.5 is the mean over prompts of the row at 1,100 ms; its tags' mean is 80.8."""
    row = PUBLISHED["main_1100_vhs"]
    assert row.figure("mean over prompts") == 80.5 and row.figure(OVER_TAGS) == pytest.approx(80.78, abs=0.01)
    assert PUBLISHED["layers_h1"].figure(OVER_TAGS) is None and PUBLISHED["layers_h1"].figure("counting") is None
