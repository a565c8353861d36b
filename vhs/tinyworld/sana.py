"""The first world's own models: a SANA-Sprint miniature, whose block 7 was made readable."""

from __future__ import annotations

import torch
from diffusers import AutoencoderDC, SanaSprintPipeline, SanaTransformer2DModel, SCMScheduler
from torch import nn
from transformers import Gemma2Config, Gemma2Model

from vhs.tinyworld.scenes import COLORS, SHAPES

CHANNELS, SIDE = 16, 8
TEXT_WIDTH, WIDTH = 64, 96
"""One token per latent pixel. The velocity contains the noise, which a token must carry through every block beside what
it computes: 16 numbers of its 96. With patches of 2 x 2 it would be 64 of 96, and captions were hardly followed."""
GUIDANCE = 0.45
"""The embedded guidance the transformer always sees: the pipeline's default 4.5 times `guidance_embeds_scale`."""
EARLY_BLOCK = 7
"""The block that the verifier reads, and that predicts the sample while the network trains."""
SIZES = (1 + len(SHAPES), 1 + len(COLORS))
"""What a token may show: nothing or one of the shapes; nothing or one of the colours."""


def autoencoder() -> AutoencoderDC:
    """64 px -> (16, 8, 8), 1.0 M parameters, untrained."""
    blocks = ["ResBlock", "ResBlock", "ResBlock", "EfficientViTBlock"]
    channels, layers, scales = (16, 32, 64, 128), (1, 1, 1, 1), ((), (), (), (5,))
    return AutoencoderDC(
        latent_channels=CHANNELS,
        attention_head_dim=16,
        encoder_block_types=blocks,
        decoder_block_types=blocks,
        encoder_block_out_channels=channels,
        decoder_block_out_channels=channels,
        encoder_layers_per_block=layers,
        decoder_layers_per_block=layers,
        encoder_qkv_multiscales=scales,
        decoder_qkv_multiscales=scales,
        downsample_block_type="Conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=1.0,
    )


def text_encoder(vocabulary: int) -> Gemma2Model:
    """Two Gemma-2 layers of width 64, untrained."""
    config = Gemma2Config(
        vocab_size=vocabulary, hidden_size=TEXT_WIDTH, intermediate_size=160, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16, query_pre_attn_scalar=16, pad_token_id=0,
        bos_token_id=2, eos_token_id=1, attn_logit_softcapping=None, max_position_embeddings=8192,
    )  # fmt: skip
    return Gemma2Model(config)


def transformer() -> SanaTransformer2DModel:
    """20 blocks of width 96 on 8 x 8 tokens, 3.1 M parameters, untrained."""
    return SanaTransformer2DModel(
        in_channels=CHANNELS, out_channels=CHANNELS, sample_size=SIDE, patch_size=1, interpolation_scale=1.0,
        num_layers=20, num_attention_heads=WIDTH // 16, attention_head_dim=16, num_cross_attention_heads=4,
        cross_attention_head_dim=WIDTH // 4, cross_attention_dim=WIDTH, caption_channels=TEXT_WIDTH,
        qk_norm="rms_norm_across_heads", guidance_embeds=True, guidance_embeds_scale=0.1,
    )  # fmt: skip


class TextToLatent(nn.Module):
    """Text encoder and transformer as one module: token ids in, flow velocity out.

    While it trains, a linear head on block 7 predicts the sample (deep supervision: Lee et al., 2015) and what the
    latent probe will say of it. In a network this small nothing else makes the early blocks decide what the picture
    will show. The pipeline has no such head.
    """

    def __init__(self, vocabulary: int):
        super().__init__()
        self.text_encoder = text_encoder(vocabulary)
        self.transformer = transformer()
        self.early = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, CHANNELS + sum(SIZES)))
        self.early_state: torch.Tensor | None = None
        self.transformer.transformer_blocks[EARLY_BLOCK].register_forward_hook(self._keep)

    def _keep(self, block: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        self.early_state = output

    def forward(self, x: torch.Tensor, s: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """x (B, 16, 8, 8), s (B,), ids and mask (B, T) -> velocity (B, 16, 8, 8)."""
        return self.with_early(x, s, ids, mask)[0]

    def with_early(
        self, x: torch.Tensor, s: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The velocity, and what block 7 predicts: the sample (both (B, 16, 8, 8)), and the probe's logits on it."""
        text = self.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        guidance = torch.full_like(s, GUIDANCE)
        velocity = self.transformer(
            x, encoder_hidden_states=text, encoder_attention_mask=mask, timestep=s, guidance=guidance, return_dict=False
        )[0]
        early = self.early(self.early_state).transpose(1, 2).unflatten(2, x.shape[2:])
        return velocity, early[:, :CHANNELS], early[:, CHANNELS:]

    def one_step(
        self, noise: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The sample of one step from noise (B, 16, 8, 8), and what block 7 predicts."""
        velocity, *early = self.with_early(noise, torch.ones(len(noise), device=noise.device), ids, mask)
        return noise - velocity, *early

    def pipeline(self, tokenizer, vae: nn.Module) -> SanaSprintPipeline:
        """The one-step generator that a run loads."""
        return SanaSprintPipeline(
            tokenizer=tokenizer, text_encoder=self.text_encoder, vae=vae, transformer=self.transformer,
            scheduler=SCMScheduler(),
        )  # fmt: skip
