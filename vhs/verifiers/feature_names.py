"""Names of what a verifier reads: `hidden_7`, or `hidden_5+7` for several blocks' outputs side by side; `latent`,
`clip`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

PATTERN = r"hidden_\d+(\+\d+)*"


def blocks_in(feature: str) -> tuple[int, ...]:
    """The blocks that a feature names, (5, 7) for `hidden_5+7`; () where it is none of hidden states."""
    if not re.fullmatch(PATTERN, feature):
        return ()
    return tuple(map(int, feature.removeprefix("hidden_").split("+")))


def hidden(blocks: Iterable[int]) -> str:
    """The feature of these blocks side by side."""
    return f"hidden_{named(blocks)}"


def named(blocks: Iterable[int]) -> str:
    """The blocks in a message."""
    return "+".join(map(str, blocks))


def single_features(feature: str) -> tuple[str, ...]:
    """What a feature is put together from, as it is collected: `hidden_5` and `hidden_7` for `hidden_5+7`."""
    return tuple(hidden([block]) for block in blocks_in(feature)) or (feature,)


def side_by_side(features: Iterable[str]) -> str:
    """The feature that is put together from these: `single_features`' other way."""
    features = list(features)
    return features[0] if len(features) == 1 else hidden(block for one in features for block in blocks_in(one))


def statistics_keys(blocks: Sequence[int]) -> list[str]:
    """What records call the files of the blocks' statistics, mean and variance in turn; of one block the keys of a
    configuration that name them."""
    keys = [f"normalization_{moment}_path" for moment in ("mean", "variance")]
    if len(blocks) < 2:
        return keys
    return [f"{key} of block {block}" for block in blocks for key in keys]


def statistics_files(folder: str | Path, blocks: Iterable[int]) -> list[Path]:
    """Mean and variance of each block in turn, by the release's names for them in a folder."""
    return [Path(folder) / f"block_{block}_{name}_bf16.pt" for block in blocks for name in ("mean", "variance")]
