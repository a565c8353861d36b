"""Every file of configs/bench: it loads, its architectures are there, and single models cost what is known of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from vhs.config.yamlfile import load
from vhs.generators.architecture import read_generator_info, shipped_architecture
from vhs.generators.settings import GeneratorSettings
from vhs.measure.config import BenchConfig, read_architecture
from vhs.measure.parts import count_part

FILES = sorted((Path(__file__).parents[2] / "configs" / "bench").glob("*.yaml"))
KNOWN = {"gemma_2_2b": 1.95, "dc_ae": 8.37, "qwen2.5_0.5b": 0.92, "clip_vit_l_14_336": 0.37}
"""TFLOP of one pass: docs/generators.md, and the verifiers' language model and tower on one picture."""


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_names_what_is_there(file) -> None:
    config = load(BenchConfig, str(file))
    assert (config.name == file.stem and config.part is None) or config.random_weights
    for label, values in config.verifiers.items():
        assert config.of_run(label).generation_mode == "prod"
        assert read_architecture(values["architecture"])["hidden_size"] > 0
        assert (label == "clip") == ("tower" in values)


def test_the_smaller_sana_sprint_has_its_published_sizes() -> None:
    folder = shipped_architecture("Efficient-Large-Model/Sana_Sprint_0.6B_1024px_diffusers")
    info = read_generator_info(folder, GeneratorSettings())
    assert (info.blocks, info.width, info.tokens, info.latent_shape) == (28, 1152, 1024, (32, 32, 32))
    assert info.parameters == pytest.approx(0.6e9, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN)
def test_a_single_model_costs_what_is_known_of_it(name) -> None:
    file = next(file for file in FILES if file.stem == name)
    (row,) = count_part(load(BenchConfig, str(file), ["num_samples=[1]"]), str)
    assert round(row["tflop"], 2) == KNOWN[name] and row["peak_bytes"] > 0
