"""VHS: best-of-N text-to-image generation with a verifier that never leaves latent space (arXiv 2603.22492)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vhs.best_of_n import BestOfN
    from vhs.ranking.rank import rank

__all__ = ["BestOfN", "rank"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`from vhs import BestOfN, rank` without making `import vhs` pay for torch."""
    if name == "BestOfN":
        from vhs.best_of_n import BestOfN

        return BestOfN
    if name == "rank":
        from vhs.ranking.rank import rank

        return rank
    raise AttributeError(f"module 'vhs' has no attribute {name!r}")
