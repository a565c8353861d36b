"""Memory counted on the meta device: exact where it can be worked out by hand."""

import pytest
import torch

from vhs.measure.memory import LiveMemory
from vhs.measure.needs import resident

KIB = 256
"""Float32 values in a kibibyte."""


def test_peak_is_what_lives_at_once():
    with LiveMemory() as memory:
        a = torch.empty(4 * KIB, device="meta")
        b = a + 1
        del a
        c = b * 2
        assert memory.live == 2 * 4096 and memory.peak == 2 * 4096
        del b, c
        assert memory.live == 0
        memory.restart()
        assert memory.peak == 0


def test_weights_and_views_count_nothing_of_their_own():
    layer = torch.nn.Linear(KIB, KIB, bias=False, device="meta")
    x = torch.empty(2, KIB, device="meta")
    with torch.no_grad(), LiveMemory() as memory:
        y = layer(x)
        rows = y.view(-1)[:3]
        assert memory.peak == 2 * 1024
        del y
        assert memory.live == 2 * 1024, "a view keeps its storage"
        del rows
        assert memory.live == 0


def test_an_address_that_is_used_again_counts():
    outside = [torch.empty(KIB, device="meta") for _ in range(50)]
    with LiveMemory() as memory:
        for one in outside:
            one + 1
        outside.clear()
        del one
        kept = [torch.empty(KIB, device="meta") for _ in range(50)]
        assert memory.live == 50 * 1024
    assert len(kept) == 50


def test_it_counts_on_a_real_device_too():
    with LiveMemory() as memory:
        kept = [torch.ones(KIB) for _ in range(3)]
        torch.ones(KIB)
        assert memory.peak == 4 * 1024 and memory.live == 3 * 1024
    assert len(kept) == 3


@pytest.mark.parametrize(
    "needs, offload, expected", [(None, "none", 15), (None, "model", 6), ("autoencoder", "model", 14)]
)
def test_offloading_keeps_the_transformer_and_the_verifier(needs, offload, expected):
    weights = {"text_encoder": 1, "transformer": 2, "verifier": 4, "autoencoder": 8}
    assert resident(weights, needs, offload) == expected
