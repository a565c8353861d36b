"""Statistics of features: one pass equals two passes, merged shards equal one stream, files are the release's."""

import pytest
import torch

from vhs.errors import ConfigError
from vhs.training.data.normalization import Moments, save_statistics, statistics_paths

FEATURES = torch.randn(60, 9, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3 + 1000


def moments_of(batches, per="channel") -> Moments:
    moments = Moments(per)
    for batch in batches:
        moments.update(batch)
    return moments


@pytest.mark.parametrize(
    ("per", "dims", "shape"), [("channel", (0, 1), (1, 5)), ("token", (0, 2), (9,)), ("all", (0, 1, 2), (1,))]
)
def test_one_pass_equals_two_passes(per, dims, shape):
    """A mean far from zero: a sum of squares in float32 would lose the variance entirely."""
    mean, variance = moments_of(FEATURES.split(7), per).statistics()
    assert mean.shape == variance.shape == shape and mean.dtype == torch.float64
    torch.testing.assert_close(mean.flatten(), FEATURES.mean(dims).flatten(), rtol=1e-13, atol=0)
    torch.testing.assert_close(variance.flatten(), FEATURES.var(dims, correction=0).flatten(), rtol=1e-9, atol=0)


def test_merged_shards_equal_one_stream():
    whole = moments_of([FEATURES])
    shards = [moments_of(part.split(4)) for part in FEATURES.split([1, 39, 20])]
    merged = Moments().merge(shards[2]).merge(Moments()).merge(shards[0]).merge(shards[1])
    assert merged.count == whole.count == 60 * 9
    torch.testing.assert_close(merged.mean, whole.mean, rtol=1e-13, atol=0)
    torch.testing.assert_close(merged.deviation, whole.deviation, rtol=1e-10, atol=0)


def test_merging_leaves_the_other_alone():
    first, second = moments_of([FEATURES[:10]]), moments_of([FEATURES[10:]])
    kept = second.mean.clone()
    Moments().merge(second).update(FEATURES[:10])
    first.merge(second)
    assert torch.equal(second.mean, kept) and second.count == 50 * 9


def test_files_are_the_releases(tmp_path):
    mean_path, variance_path = save_statistics(moments_of([FEATURES.to(torch.bfloat16)]), tmp_path, "hidden_7")
    assert (mean_path.name, variance_path.name) == ("block_7_mean_bf16.pt", "block_7_variance_bf16.pt")
    for path in (mean_path, variance_path):
        tensor = torch.load(path, weights_only=True)
        assert tensor.shape == (1, 5) and tensor.dtype == torch.bfloat16
    assert sorted(p.name for p in tmp_path.iterdir()) == ["block_7_mean_bf16.pt", "block_7_variance_bf16.pt"]
    assert statistics_paths("x", "latent")[0].name == "latent_mean_bf16.pt"


def test_bad_features_are_refused(tmp_path):
    with pytest.raises(ValueError, match="NaN"):
        Moments().update(torch.full((2, 3, 4), float("nan")))
    with pytest.raises(ConfigError, match="no samples"):
        Moments().statistics()
    with pytest.raises(ConfigError, match="variance is zero in 5 places"):
        save_statistics(moments_of([torch.ones(4, 9, 5)]), tmp_path, "hidden_7")
    assert not list(tmp_path.iterdir())
