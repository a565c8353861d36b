"""The second world's own models: a PixArt-alpha-DMD miniature. No block of it is trained to foretell anything."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL, DDPMScheduler, PixArtAlphaPipeline, PixArtTransformer2DModel
from torch import nn
from transformers import T5Config, T5EncoderModel

CHANNELS, SIDE = 16, 8
TEXT_WIDTH, WIDTH, BLOCKS = 64, 112, 8
"""One token per latent pixel, as in the first world: final latent and hidden states are both 64 tokens, so that a
verifier of either reads as many."""
TIMESTEP = 400
"""Where the one step is taken, as in PixArt-alpha-DMD; its input is noise alone."""


def autoencoder() -> AutoencoderKL:
    """64 px -> (16, 8, 8), 0.7 M parameters, untrained."""
    channels = (8, 16, 32, 64)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=channels,
        layers_per_block=1,
        latent_channels=CHANNELS,
        norm_num_groups=2,
        sample_size=64,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=1.0,
    )


def text_encoder(vocabulary: int) -> T5EncoderModel:
    """Two T5 v1.1 layers of width 64, untrained."""
    return T5EncoderModel(
        T5Config(
            vocab_size=vocabulary, d_model=TEXT_WIDTH, d_kv=16, d_ff=160, num_layers=2, num_heads=4,
            feed_forward_proj="gated-gelu", dropout_rate=0.0,
        )
    )  # fmt: skip


def transformer() -> PixArtTransformer2DModel:
    """8 blocks of width 112 on 8 x 8 tokens, 1.8 M parameters, untrained."""
    return PixArtTransformer2DModel(
        in_channels=CHANNELS, out_channels=CHANNELS, sample_size=SIDE, patch_size=1, num_layers=BLOCKS,
        num_attention_heads=WIDTH // 16, attention_head_dim=16, cross_attention_dim=WIDTH,
        caption_channels=TEXT_WIDTH, use_additional_conditions=False,
    )  # fmt: skip


def scheduler() -> DDPMScheduler:
    """PixArt's noise schedule; the network predicts v (Salimans and Ho, 2022)."""
    return DDPMScheduler(
        beta_schedule="linear", beta_start=1e-4, beta_end=0.02, prediction_type="v_prediction", clip_sample=False
    )


class TextToLatent(nn.Module):
    """Text encoder and transformer as one module: token ids and noise in, a sample out."""

    def __init__(self, vocabulary: int):
        super().__init__()
        self.text_encoder = text_encoder(vocabulary)
        self.transformer = transformer()
        self.signal = scheduler().alphas_cumprod[TIMESTEP].sqrt().item()

    def one_step(self, noise: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor]:
        """The sample of the one step from noise (B, 16, 8, 8), in a tuple."""
        v = self._v(noise, noise.new_full((len(noise),), TIMESTEP), ids, mask)
        return (self.signal * noise - (1 - self.signal**2) ** 0.5 * v,)

    def _v(self, x: torch.Tensor, timestep: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        text = self.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return self.transformer(
            x, encoder_hidden_states=text, encoder_attention_mask=mask, timestep=timestep, return_dict=False,
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
        )[0]  # fmt: skip

    def pipeline(self, tokenizer, vae: nn.Module) -> PixArtAlphaPipeline:
        """The one-step generator that a run loads."""
        return PixArtAlphaPipeline(
            tokenizer=tokenizer, text_encoder=self.text_encoder, vae=vae, transformer=self.transformer,
            scheduler=scheduler(),
        )  # fmt: skip
