"""`micro_batch: auto`: how many candidates fit, by hand; a run with it is the same run."""

from __future__ import annotations

import pytest
import torch

from tests.test_best_of_n import TEXT, generator, verifier  # noqa: F401 - fixtures
from vhs import BestOfN
from vhs.config.run import RunConfig
from vhs.errors import ConfigError
from vhs.fitting import MOST, fit_micro_batch, that_fit
from vhs.resolve import resolve_models

GIB = 2**30


@pytest.mark.parametrize(
    ("free", "one", "three", "expected"),
    [
        (20 * GIB, 1 * GIB, 3 * GIB, 8),  # ten in half of it: the power of two below
        (16 * GIB, 1 * GIB, 3 * GIB, 8),
        (15 * GIB, 1 * GIB, 3 * GIB, 4),
        (1 * GIB, 1 * GIB, 3 * GIB, 1),  # not even one: running out of memory says so
        (10**15, 1, 3, MOST),
        (8 * GIB, 1 * GIB, 1 * GIB, MOST),
    ],
)
def test_half_of_the_free_memory_is_filled(free, one, three, expected) -> None:
    assert that_fit(free, one, three) == expected


def test_the_size_that_was_measured_changes_no_winner(generator, verifier, monkeypatch) -> None:  # noqa: F811
    """A GPU of 64 MiB that is not there: every candidate takes one of them more."""
    seen: list[int] = []
    noise = generator.noise
    monkeypatch.setattr(generator, "noise", lambda seeds: seen.append(len(seeds)) or noise(seeds))
    for name, value in (
        ("synchronize", None), ("reset_peak_memory_stats", None), ("memory_allocated", 0), ("memory_reserved", 0),
        ("mem_get_info", (16 * 2**20, 64 * 2**20)),
    ):  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, lambda *device, value=value: value)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: seen[-1] * 2**20)
    for model in (generator, verifier):
        monkeypatch.setattr(model, "micro_batch", 2)
    whole = BestOfN(generator, verifier, num_samples=5)(TEXT)
    seen.clear()
    fit_micro_batch(generator, verifier, "cuda")
    assert seen == [1, 1, 3] and generator.micro_batch == verifier.micro_batch == 8
    fitted = BestOfN(generator, verifier, num_samples=5)(TEXT)
    assert fitted.best_index == whole.best_index and fitted.scores == pytest.approx(whole.scores, abs=1e-5)


def test_without_a_gpu_auto_is_eight(run_keys) -> None:
    config = RunConfig(**{**run_keys, "micro_batch": "auto"})
    models = resolve_models(config)
    assert models.micro_batch == models.generator.settings.micro_batch == 8
    assert models.fits_itself and not resolve_models(config.changed(micro_batch=3)).fits_itself


@pytest.mark.parametrize("value", ["all", 0, True, 2.5, None])
def test_another_micro_batch_is_one_line(run_keys, value) -> None:
    with pytest.raises(ConfigError, match=r"micro_batch: .*a number from 1 on, or auto, is right"):
        RunConfig(**run_keys).changed(micro_batch=value)
