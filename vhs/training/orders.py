"""In which order the samples of an epoch are read: pure functions of (samples, epoch, seed)."""

from __future__ import annotations

import torch


def order(count: int, epoch: int, seed: int) -> torch.Tensor:
    """The samples of an epoch in their order: a permutation that depends on (seed, epoch) alone."""
    return torch.randperm(count, generator=_generator(epoch, seed))


def blocked_order(texts: torch.Tensor, size: int, epoch: int, seed: int) -> torch.Tensor:
    """As `order`, in blocks of `size` samples of one text each (`texts` (n,): which); what remains of each text is put
    into blocks with others' rest."""
    mixed = order(len(texts), epoch, seed)
    by_text = mixed[torch.argsort(texts[mixed], stable=True)]
    counts = torch.bincount(texts)
    start = counts.cumsum(0) - counts
    within = torch.arange(len(texts)) - start[texts[by_text]]
    whole = within < (counts // size * size)[texts[by_text]]
    rest = by_text[~whole]
    rest = rest[torch.argsort(torch.argsort(mixed)[rest])]  # in the shuffled order again
    blocks = torch.cat([by_text[whole], rest[: len(rest) // size * size]]).reshape(-1, size)
    blocks = blocks[order(len(blocks), epoch, seed + 1)]
    return torch.cat([blocks.flatten(), rest[len(rest) // size * size :]])


def streamed_order(shards: torch.Tensor, buffer: int, streams: int, batch: int, epoch: int, seed: int) -> torch.Tensor:
    """An order in which shards are read one after the other: whole batches of `batch` samples, `streams` equal parts
    in each, the first part from the first stream, and so on.

    The shards (`shards` (n,): each sample's) are shuffled, and the samples in that order cut into `streams` equal
    pieces. In each a sample is read at most `buffer / streams` places before or after its own, at random: what a
    shuffle buffer of that size does, as a function of epoch and seed alone. Samples that fill no batch are left out.
    """
    shuffled = torch.argsort(order(int(shards.max()) + 1, epoch, seed))  # the place of each shard
    reading = torch.argsort(shuffled[shards], stable=True)
    length = len(shards) // streams
    pieces = reading[: streams * length].reshape(streams, length)
    moved = torch.rand(streams, length, generator=_generator(epoch, seed + 1), dtype=torch.float64)
    places = torch.arange(length) + moved * (buffer // streams)
    pieces = pieces.gather(1, places.argsort(dim=1))
    steps, share = length // (batch // streams), batch // streams
    return pieces[:, : steps * share].reshape(streams, steps, share).transpose(0, 1).reshape(-1)


def _generator(epoch: int, seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed * 1_000_003 + epoch)
