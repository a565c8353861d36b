"""Each optimisation is there, saves what it says, and is off inside its context alone."""

import json
from contextlib import ExitStack

import pytest

from tests.measure.test_bench import bench  # noqa: F401 - a fixture
from vhs.config.yamlfile import load
from vhs.errors import ConfigError
from vhs.measure.bench import _flops, methods, models_of
from vhs.measure.config import BenchConfig
from vhs.measure.memory import peak_bytes, size
from vhs.measure.optimisations import OPTIMISATIONS, choose
from vhs.records import Prompt


def hidden_alone(folder):
    return f"verifiers={{hidden_1: {{architecture: {folder / 'verifier.json'}}}}}"


def test_every_optimisation_is_measured_against_the_method_without_it(bench, tmp_path, capsys):  # noqa: F811
    assert bench("--without", "num_samples=[4]", hidden_alone(tmp_path)) == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert [row["without"] for row in rows] == ["text_rows", "question", "streaming", "micro_batch"]
    for row in rows:
        assert 0 < row["ratio_p5"] <= row["ratio"] <= row["ratio_p95"]
        assert row["ratio"] == pytest.approx(row["without_ms"] / row["with_ms"], rel=1e-3)
        assert row["largest_score_difference"] < 1e-4, "it changes no score but for rounding"
    page = (tmp_path / "out" / "small_without.md").read_text()
    assert "| hidden_1 | streaming | 4 |" in page and "- `question`: " in page and "--without" in page


@pytest.mark.parametrize("name", ["text_rows", "question", "streaming"])
def test_without_it_more_is_computed_or_held(bench, tmp_path, name):  # noqa: F811
    config = load(BenchConfig, tmp_path / "bench.yaml", ["device=cpu", hidden_alone(tmp_path)])
    one = OPTIMISATIONS[name]

    def cost(context):
        with context:
            [(_, method)] = methods(config)

            def work():
                method(Prompt(0, config.prompt), num_samples=8)

            return _flops(method, work), peak_bytes(work, sum(map(size, models_of(method))), "cpu")

    flops, held = cost(ExitStack())
    more_flops, more_held = cost(one.without())
    stage = {"text_rows": "prefix", "question": "LLM"}.get(name)
    assert more_flops[stage] > flops[stage] if stage else more_held > held
    assert cost(ExitStack()) == (flops, held), "it is back after the context"


def test_what_needs_compiling_is_not_there_without(tmp_path):
    config = load(BenchConfig, "configs/bench/tiny.yaml", [])
    assert set(OPTIMISATIONS) - set(choose([], config)) == {"compile", "graphs", "padding", "grouped"}
    assert set(choose([], config.model_copy(update={"compile": True}))) == set(OPTIMISATIONS)
    with pytest.raises(ConfigError, match="--without: graphs: is there with compile: true alone"):
        choose(["graphs"], config)
    with pytest.raises(ConfigError, match="--without: text_row: no such optimisation; did you mean text_rows"):
        choose(["text_row"], config)
