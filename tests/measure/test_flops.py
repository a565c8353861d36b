"""The cost of a pass and of its first blocks, counted without weights."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vhs.config.yamlfile import load
from vhs.generators.settings import GeneratorSettings
from vhs.generators.text import instruction
from vhs.measure import paper
from vhs.measure.config import BenchConfig
from vhs.measure.counted import text_tokens
from vhs.measure.flops import ROWS, TERA, cost, table
from vhs.measure.random_models import TOKENIZERS, cut
from vhs.verifiers.language_model import load_tokenizer


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


ROOT = Path(__file__).parents[2]


PAGE = ROOT / "docs" / "benchmarks" / "sana_sprint_1.6b_flops.md"
FLOOR = {"prefix": 1.19, "LLM": 0.92}
"""TFLOP of one candidate alone: the first 8 blocks (tests/generators/test_full_size.py), and Qwen2.5-0.5B on 1,024
tokens of the picture and 110 of the question."""


def test_no_candidate_costs_more_than_one_alone() -> None:
    """At most 1.05 times the floor, by the page: what all candidates share is computed for one of them."""
    rows = re.findall(r"\| hidden_7 \| (\d+) \|.* prefix ([\d.]+),.* LLM ([\d.]+) \|", PAGE.read_text(encoding="utf-8"))
    assert [int(row[0]) for row in rows] == [1, 2, 4, 6, 9, 15, 32]
    for count, prefix, llm in rows:
        for name, value in (("prefix", prefix), ("LLM", llm)):
            assert float(value) / (int(count) * FLOOR[name]) <= 1.05, (count, name)


@pytest.mark.slow
def test_the_page_of_costs_is_what_is_counted() -> None:
    """Its first rows; the command that writes it is in it."""
    config = load(BenchConfig, str(ROOT / "configs" / "bench" / "sana_sprint_1.6b.yaml"), ["num_samples=[1,2]"])
    page = PAGE.read_text(encoding="utf-8")
    rows = paper.count(config.model_copy(update={"verifiers": {"hidden_7": config.verifiers["hidden_7"]}}), str)
    for row in rows:
        found = re.search(rf"\| hidden_7 \| {row['num_samples']} \| ([\d.]+) \|[^|]*\| ([\d.]+) \|", page)
        assert found and found.groups() == (f"{row['tflop']:.2f}", f"{row['peak_gib']:.2f}")
        assert [row["flops"][name] / row["num_samples"] / 1e12 <= 1.05 * FLOOR[name] for name in FLOOR] == [True] * 2


def test_a_further_candidate_costs_what_lies_between_the_ends() -> None:
    rows = [{"verifier": "a", "num_samples": n, "tflop": 10 + 2 * n} for n in (8, 1, 4)]
    rows.append({"verifier": "b", "num_samples": 1, "tflop": 3})
    assert paper.further_candidate(rows) == {"a": 2}


def test_the_text_has_its_published_length_with_any_tokenizer() -> None:
    text = "\n".join(instruction(None))
    shorter = cut(load_tokenizer(TOKENIZERS / "verifier_hidden_7"), text)
    assert text.startswith(shorter) and len(load_tokenizer(TOKENIZERS / "verifier_hidden_7")(shorter).input_ids) == 170
    given = [(None, 470), (True, 470), (shorter, 470), (False, 300)]
    for value, tokens in given:
        assert text_tokens(GeneratorSettings(complex_human_instruction=value)) == tokens
    assert text_tokens(GeneratorSettings(complex_human_instruction=False, max_sequence_length=32)) == 32
