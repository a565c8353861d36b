"""SANA-Sprint 1.6B at full size on the meta device: shapes and cost, without a weight."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vhs.generators.architecture import read_generator_info, shipped_architecture
from vhs.generators.loading import random_pipeline
from vhs.generators.sana_sprint import SanaSprint
from vhs.generators.settings import GeneratorSettings
from vhs.records import TextEmbedding

RELEASE = "Efficient-Large-Model/Sana_Sprint_1.6B_1024px_diffusers"
TERA = 1e12


@pytest.fixture(scope="module")
def sprint() -> SanaSprint:
    folder = shipped_architecture(RELEASE)
    settings = GeneratorSettings(device="meta", dtype="bfloat16")
    return SanaSprint(random_pipeline(folder, "meta", "bfloat16"), read_generator_info(folder, settings), settings)


def parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_parameter_counts(sprint: SanaSprint) -> None:
    assert parameters(sprint.pipeline.text_encoder) == 2_614_341_888
    assert parameters(sprint.transformer) == 1_610_237_472
    assert parameters(sprint.pipeline.vae) == 312_250_275


def test_the_whole_path_at_1024_pixels(sprint: SanaSprint) -> None:
    """470 text tokens of which 300 are kept, 1,024 tokens of 2,240 at block 7, 32 x 32 x 32 latents, 1024 px."""
    ids = torch.zeros(1, 470, dtype=torch.long, device="meta")
    embeds = sprint.pipeline.text_encoder(ids)[0][:, :300]
    assert embeds.shape == (1, 300, 2304) and embeds.dtype == torch.bfloat16
    text = TextEmbedding(embeds, torch.ones(1, 300, dtype=torch.long, device="meta"))
    noise = sprint.noise([0, 1])
    assert noise.shape == (2, 32, 32, 32)
    prefix = sprint.prefix(noise, text, block=7)
    assert prefix.hidden.shape == (2, 1024, 2240) and prefix.hidden.dtype == torch.bfloat16
    latents = sprint.finish(prefix[[1]])
    assert latents.shape == (1, 32, 32, 32) and latents.dtype == torch.float32
    assert sprint.pipeline.vae.decode(latents.bfloat16(), return_dict=False)[0].shape == (1, 3, 1024, 1024)


def test_the_early_exit_costs_eight_blocks_of_twenty(sprint: SanaSprint) -> None:
    text = TextEmbedding(torch.zeros(1, 300, 2304, device="meta"), torch.ones(1, 300, dtype=torch.long, device="meta"))
    noise = sprint.noise([0])

    def cost(work) -> float:
        with FlopCounterMode(display=False) as counter:
            work()
        return counter.get_total_flops() / TERA

    prefix = sprint.prefix(noise, text, block=7)
    assert cost(lambda: sprint.prefix(noise, text, block=7)) == pytest.approx(1.19, abs=0.01)
    assert cost(lambda: sprint.generate(noise, text)) == pytest.approx(2.97, abs=0.01)
    assert cost(lambda: sprint.finish(prefix)) == pytest.approx(1.78, abs=0.02)
