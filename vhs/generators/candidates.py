"""Outputs of networks, candidate by candidate: what a pipeline batches in its own way, in one form that can be indexed.

With guidance a pipeline puts two samples of every candidate into one batch, all of one kind first. Here a tensor is
(N, m, ...), m samples of each of N candidates; tuples and the outputs of diffusers' models keep their form, a list (one
entry per sample, as Z-Image has it) becomes a tensor that remembers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vhs.errors import CheckpointError


@dataclass(frozen=True)
class Samples:
    """`tensor` (N, m, ...): the samples of N candidates; `listed`: the pipeline had a list of them."""

    tensor: torch.Tensor
    listed: bool = False


def split(output: Any, count: int) -> Any:
    """What a network returned for `count` candidates, with `Samples` for its tensors (m * N, ...); nothing is copied.

    Raises CheckpointError for a tensor that is not batched by candidate.
    """
    if isinstance(output, torch.Tensor):
        if output.ndim == 0 or output.shape[0] % count:
            raise CheckpointError(f"block: an output {tuple(output.shape)} is not batched over {count} candidates")
        return Samples(output.unflatten(0, (-1, count)).transpose(0, 1))
    if isinstance(output, list):
        return Samples(split(torch.stack(output), count).tensor, listed=True)
    return _inside(output, lambda entry: split(entry, count))


def join(tree: Any) -> Any:
    """The network's own form again."""
    if isinstance(tree, Samples):
        batch = tree.tensor.transpose(0, 1).flatten(0, 1)
        return list(batch) if tree.listed else batch
    return _inside(tree, join)


def take(tree: Any, indices: Any) -> Any:
    """The candidates at `indices`."""
    if isinstance(tree, Samples):
        return Samples(tree.tensor[indices], tree.listed)
    return _inside(tree, lambda entry: take(entry, indices))


def cat(trees: Sequence[Any]) -> Any:
    """The candidates of several trees of one form, one after the other."""
    first = trees[0]
    if len(trees) == 1:
        return first
    if isinstance(first, Samples):
        return Samples(torch.cat([tree.tensor for tree in trees]), first.listed)
    if isinstance(first, dict):
        return _like(first, {key: cat([tree[key] for tree in trees]) for key in first})
    if isinstance(first, tuple):
        return tuple(cat(list(entries)) for entries in zip(*trees, strict=True))
    return first


def of_kind(tree: Any, kind: int) -> Any:
    """Tensors (N, ...) of one kind of sample: 0 the first in the batch, -1 the last."""
    return tree.tensor[:, kind] if isinstance(tree, Samples) else _inside(tree, lambda entry: of_kind(entry, kind))


def repeated(output: Any, count: int) -> Any:
    """What `encode_prompt` returned for one prompt, for `count` candidates: what has a batch of one is repeated."""
    if isinstance(output, torch.Tensor):
        one = output.ndim > 1 and output.shape[0] == 1
        return output.repeat(count, *[1] * (output.ndim - 1)) if one else output
    if isinstance(output, list):
        return output * count if len(output) == 1 else output
    return _inside(output, lambda entry: repeated(entry, count))


def _inside(tree: Any, function: Callable[[Any], Any]) -> Any:
    """A tuple, a model's output or a dict with `function` applied to its entries; anything else as it is."""
    if isinstance(tree, tuple):
        return tuple(function(entry) for entry in tree)
    if isinstance(tree, dict):
        return _like(tree, {key: function(value) for key, value in tree.items()})
    return tree


def _like(tree: dict[Any, Any], values: dict[Any, Any]) -> dict[Any, Any]:
    return values if type(tree) is dict else type(tree)(**values)
