"""What a time budget buys: the search by hand, a run that takes its N from it."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from vhs.config.run import RunConfig
from vhs.errors import ConfigError
from vhs.measure import budget
from vhs.measure.latency import Latency
from vhs.records import Prompt
from vhs.runs import runner


@pytest.mark.parametrize("allowed, expected", [(9.9, 0), (10, 1), (29, 2), (99, 9), (100, 10), (1e9, 64)])
def test_the_largest_number_of_candidates_that_fits(allowed, expected):
    asked = []
    assert budget.largest(lambda n: asked.append(n) or 10 * n, allowed, most=64) == expected
    assert max(asked) <= max(1, 2 * expected), "nothing far above the budget is measured"


def test_several_budgets_share_their_measurements(monkeypatch):
    asked = []
    monkeypatch.setattr(budget, "latency", lambda work, device, repeats: Latency.of([10.0 * work()]))

    class Method:
        generator = SimpleNamespace(info=SimpleNamespace(device="cpu"))

        def __call__(self, prompt, num_samples):
            asked.append(num_samples)
            return num_samples

    found = budget.fits(Method(), Prompt(0, "x"), [5, 35, 90], repeats=1)
    assert [one.num_samples for one in found] == [0, 3, 9] and len(asked) == len(set(asked))


def test_percentiles_are_interpolated():
    assert Latency.of([float(n) for n in range(1, 102)]) == Latency(51.0, 6.0, 96.0, 101)


def test_a_run_takes_its_candidates_from_the_budget_and_keeps_them(run_keys, monkeypatch):
    """One candidate takes 10 ms by this stopwatch; the run that goes on does not measure again."""
    counts = []

    def stopwatch(work, device, repeats):
        result = work()
        counts.append(result.num_samples)
        assert len(result.images) == 1, "what is measured is prod"
        return Latency.of([10.0 * result.num_samples])

    monkeypatch.setattr(budget, "latency", stopwatch)
    config = RunConfig(**run_keys, budget_ms=35, generation_mode="dev", cont=True)
    said = []
    runner.run(config, said.append, bar=False)
    assert "budget_ms: 35 buys 3 candidates here (30 ms; one takes 10 ms)" in said and max(counts) == 4
    folder = Path(config.output_path, config.name)
    assert json.loads((folder / "run.json").read_text())["config"]["num_samples"] == 3
    assert len(list(folder.glob("*/00000/samples/img_*.png"))) == 3
    counts.clear()
    runner.run(config, said.append, bar=False)
    assert said[-1].endswith("already done; overwrite: true makes it again") and not counts


def test_a_budget_that_no_candidate_fits(run_keys, monkeypatch):
    monkeypatch.setattr(budget, "latency", lambda work, device, repeats: Latency.of([12.3]))
    with pytest.raises(ConfigError, match=r"budget_ms: 5, but a single candidate takes 12.3 ms here.*; 13 or more"):
        runner.run(RunConfig(**run_keys, budget_ms=5), bar=False)


def test_a_budget_needs_candidates_to_choose_among(run_keys):
    with pytest.raises(ValueError, match="budget_ms"):
        RunConfig(**{**run_keys, "num_samples": 1}, latent_verifier=False, budget_ms=5)
