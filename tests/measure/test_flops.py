"""The cost of a pass and of its first blocks, counted without weights."""

from __future__ import annotations

from vhs.measure.flops import ROWS, TERA, cost, table


def test_sana_sprint_and_pixart_cost_what_is_known_of_them() -> None:
    """SANA-Sprint's figures are those of its own class (tests/generators/test_full_size.py)."""
    sprint, pixart = (
        cost(next(row for row in ROWS if row.folder == name)) for name in ("sana_sprint_1.6b", "pixart_alpha_dmd_512")
    )
    figures = [round(value / TERA, 2) for value in (sprint.prefix, sprint.whole, sprint.text, sprint.decode)]
    assert figures == [1.19, 2.97, 1.95, 8.37] and (sprint.tokens, sprint.width) == (1024, 2240)
    blocks = 28  # embeddings and output layers are small: 8 blocks of 28 are their share of a pass
    assert abs(pixart.prefix / pixart.whole - 8 / blocks) < 0.01 and (pixart.tokens, pixart.width) == (1024, 1152)
    assert "| PixArt-alpha-DMD | 512 px | 1,024 x 1,152 | 28 |" in table([pixart])
