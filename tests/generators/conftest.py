"""Real SANA-Sprint pipelines at small sizes: the release's golden one, and one shaped like the tiny world's."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vhs.generators.sana_sprint import SanaSprint
from vhs.records import TextEmbedding

GOLDEN = Path(__file__).parents[1] / "goldens" / "D"
SIDE = {"image_width": 64, "image_height": 64}


@pytest.fixture(scope="session")
def golden() -> Path:
    """Golden D: a run of the published release."""
    return GOLDEN


@pytest.fixture(scope="session")
def golden_folder() -> Path:
    """The golden's generator: 10 blocks of width 48, 8 x 8 latents of 8 channels, patch size 1, no positions."""
    return GOLDEN / "sana-sprint-tiny"


@pytest.fixture(scope="session")
def golden_sprint(golden_folder: Path) -> SanaSprint:
    return SanaSprint.from_pretrained(golden_folder, **SIDE)


@pytest.fixture(scope="session")
def golden_text() -> Callable[[int, str], TextEmbedding]:
    """`golden_text(prompt, tensors)`: the embedding that the release computed."""

    def text(prompt: int, tensors: str) -> TextEmbedding:
        mask = load_file(GOLDEN / "tensors_steps1.safetensors")[f"prompt{prompt}.prompt_attention_mask"]
        return TextEmbedding(load_file(GOLDEN / f"{tensors}.safetensors")[f"prompt{prompt}.prompt_embeds"], mask)

    return text


@pytest.fixture(scope="session")
def patched_folder(tmp_path_factory: pytest.TempPathFactory, golden_folder: Path) -> Path:
    """Random weights in the tiny world's shape: 20 blocks, patch size 2 (16 tokens), sine-cosine positions, f8 c16."""
    from diffusers import AutoencoderDC, SanaTransformer2DModel

    folder = tmp_path_factory.mktemp("generator") / "patched"
    shutil.copytree(golden_folder, folder)
    for name in ("transformer", "vae"):
        shutil.rmtree(folder / name)
    torch.manual_seed(0)
    SanaTransformer2DModel(
        in_channels=16,
        out_channels=16,
        num_attention_heads=4,
        attention_head_dim=8,
        num_layers=20,
        num_cross_attention_heads=4,
        cross_attention_head_dim=8,
        cross_attention_dim=32,
        caption_channels=32,
        sample_size=8,
        patch_size=2,
        interpolation_scale=1,
        guidance_embeds=True,
        qk_norm="rms_norm_across_heads",
    ).save_pretrained(folder / "transformer")
    AutoencoderDC(
        latent_channels=16,
        attention_head_dim=8,
        encoder_block_types=("ResBlock",) * 3 + ("EfficientViTBlock",),
        decoder_block_types=("ResBlock",) * 3 + ("EfficientViTBlock",),
        encoder_block_out_channels=(8, 8, 16, 16),
        decoder_block_out_channels=(8, 8, 16, 16),
        encoder_layers_per_block=(1,) * 4,
        decoder_layers_per_block=(1,) * 4,
        encoder_qkv_multiscales=((), (), (), (5,)),
        decoder_qkv_multiscales=((), (), (), (5,)),
        upsample_block_type="interpolate",
        downsample_block_type="Conv",
        scaling_factor=0.41407,
    ).save_pretrained(folder / "vae")
    return folder


@pytest.fixture(scope="session")
def patched_sprint(patched_folder: Path) -> SanaSprint:
    return SanaSprint.from_pretrained(patched_folder, **SIDE)
