import pytest
import torch

from vhs.errors import CheckpointError
from vhs.verifiers.hidden import HiddenReader, Statistics, load_statistics, normalize


@pytest.fixture
def write(tmp_path):
    def files(mean, variance=None, name="block_7"):
        paths = [tmp_path / f"{name}_mean_bf16.pt", tmp_path / f"{name}_variance_bf16.pt"]
        torch.save(mean, paths[0])
        torch.save(torch.ones_like(mean) if variance is None else variance, paths[1])
        return paths

    return files


@pytest.mark.parametrize("shape", [(1,), (5,), (1, 3)])
def test_normalize_by_hand(shape):
    hidden = torch.randn(2, 5, 3)
    mean, variance = torch.randn(shape), torch.rand(shape) + 0.1
    whole = {(1,): (1, 1, 1), (5,): (1, 5, 1), (1, 3): (1, 1, 3)}[shape]
    full_mean, full_variance = mean.reshape(whole), variance.reshape(whole)
    expected = (hidden - full_mean) / (full_variance + 1e-6).sqrt()
    torch.testing.assert_close(normalize(hidden, mean, variance), expected, atol=0, rtol=0)


@pytest.mark.parametrize("shape", [(), (5, 3), (1, 5, 3), (5, 1), (0,)])
def test_other_shapes_are_refused(shape, write):
    with pytest.raises(CheckpointError, match=r"_mean_bf16.pt: shape \(.*\); statistics are \(1,\), \(tokens,\)"):
        load_statistics(*write(torch.zeros(shape)))


def test_statistics_that_do_not_fit(write):
    channels = load_statistics(*write(torch.zeros(1, 4)))
    with pytest.raises(CheckpointError, match="statistics of 4 channels; the hidden states have 3"):
        HiddenReader(3, (7,), (channels,))
    tokens = HiddenReader(3, (7,), (load_statistics(*write(torch.zeros(4))),))
    assert tokens.check(torch.zeros(2, 4, 3)) == 2
    with pytest.raises(CheckpointError, match="statistics of 4 tokens; the hidden states have 5"):
        tokens.check(torch.zeros(2, 5, 3))


def test_statistics_of_another_block(write):
    paths = write(torch.zeros(1, 4), name="block_17")
    load_statistics(*paths, block=17)
    with pytest.raises(CheckpointError, match="17_mean_bf16.pt: statistics of block 17; the verifier reads block 7"):
        load_statistics(*paths, block=7)


def test_damaged_statistics(write, tmp_path):
    mean, variance = write(torch.zeros(1, 4), torch.tensor([[1.0, -1.0, 1.0, 1.0]]))
    with pytest.raises(CheckpointError, match="a variance is negative"):
        load_statistics(mean, variance)
    with pytest.raises(CheckpointError, match=r"shape \(1, 4\) differs from the mean's \(4,\)"):
        load_statistics(write(torch.zeros(4), torch.ones(1, 4))[0], variance)
    with pytest.raises(CheckpointError, match="no such statistics file; the published ones come with: python"):
        load_statistics(tmp_path / "none.pt", variance)
    mean.write_bytes(mean.read_bytes()[:200])
    with pytest.raises(CheckpointError, match="mean_bf16.pt: not a usable file of one tensor") as error:
        load_statistics(mean, variance)
    assert "\n" not in str(error.value)
    torch.save({"mean": torch.zeros(4)}, mean)
    with pytest.raises(CheckpointError, match="holds dict; one floating-point tensor is expected"):
        load_statistics(mean, variance)


def test_code_in_a_statistics_file_does_not_run(write, tmp_path):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    mean, variance = write(torch.zeros(1, 4))
    torch.save(Payload(), mean)
    with pytest.raises(CheckpointError, match="not a usable file of one tensor"):
        load_statistics(mean, variance)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("features", [torch.zeros(2, 5, 4), torch.zeros(5, 3), [torch.zeros(5, 3)], 3])
def test_features_of_another_kind(features):
    with pytest.raises(CheckpointError, match=r"verifier: reads hidden states \(N, tokens, 3\); got"):
        HiddenReader(3, (7,)).check(features)


@pytest.mark.parametrize(("statistics", "shape"), [((64,), (2, 1, 48)), ((1, 48), (2, 64, 1)), ((1, 1), (2, 64, 48))])
def test_features_do_not_broadcast_against_statistics(statistics, shape):
    one = Statistics(torch.zeros(statistics), torch.ones(statistics), "mean.pt")
    with pytest.raises(CheckpointError, match="mean.pt: statistics of"):
        one.apply(torch.zeros(shape))
