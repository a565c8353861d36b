"""Tiny pipelines of every family with random weights, in the real classes, as folders that `save_pretrained` writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AuraFlowPipeline,
    AuraFlowTransformer2DModel,
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLQwenImage,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    HunyuanDiT2DModel,
    HunyuanDiTPipeline,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SanaPipeline,
    SanaSprintPipeline,
    SanaTransformer2DModel,
    SCMScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

WORDS = [
    "<pad>",
    "</s>",
    "<bos>",
    "<unk>",
    "a",
    "photo",
    "of",
    "red",
    "green",
    "blue",
    "circle",
    "star",
    "two",
    "dogs",
    "and",
    "the",
    "user",
    "assistant",
    "system",
    ":",
    ".",
]
TEMPLATE = "{% for m in messages %}{{ m['role'] }} : {{ m['content'] }} {% endfor %}"


def tokenizer(length: int = 16) -> PreTrainedTokenizerFast:
    """Words, padded on the right."""
    words = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, "<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        eos_token="</s>",
        bos_token="<bos>",
        unk_token="<unk>",
        model_max_length=length,
        padding_side="right",
        chat_template=TEMPLATE,
    )


def clip(width: int, projection: int | None = None) -> Any:
    config = CLIPTextConfig(
        vocab_size=32,
        hidden_size=width,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=16,
        projection_dim=projection or width,
        eos_token_id=1,
        pad_token_id=0,
        bos_token_id=2,
    )
    return CLIPTextModelWithProjection(config) if projection else CLIPTextModel(config)


def t5(width: int = 32) -> T5EncoderModel:
    return T5EncoderModel(T5Config(vocab_size=32, d_model=width, d_kv=8, d_ff=32, num_layers=1, num_heads=2))


def gemma() -> Gemma2Model:
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    return Gemma2Model(Gemma2Config(vocab_size=32, hidden_size=32, intermediate_size=32, pad_token_id=0, **sizes))


def qwen3() -> Qwen3Model:
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    return Qwen3Model(Qwen3Config(vocab_size=32, hidden_size=16, intermediate_size=32, pad_token_id=0, **sizes))


def qwen_vl() -> Qwen2_5_VLForConditionalGeneration:
    text = {
        "vocab_size": 32,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "rope_scaling": {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"},
        "rope_theta": 1e6,
    }
    vision = {
        "depth": 1,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": 16,
        "fullatt_block_indexes": [0],
    }
    return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision))


def kl(channels: int = 4, **other: Any) -> AutoencoderKL:
    """Factor 2."""
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=16,
        **other,
    )


def dc() -> AutoencoderDC:
    """Factor 8."""
    return AutoencoderDC(
        latent_channels=4,
        attention_head_dim=8,
        encoder_block_types=("ResBlock",) * 4,
        decoder_block_types=("ResBlock",) * 4,
        encoder_block_out_channels=(8,) * 4,
        decoder_block_out_channels=(8,) * 4,
        encoder_layers_per_block=(1,) * 4,
        decoder_layers_per_block=(1,) * 4,
        encoder_qkv_multiscales=((),) * 4,
        decoder_qkv_multiscales=((),) * 4,
        upsample_block_type="interpolate",
        downsample_block_type="Conv",
        scaling_factor=0.41407,
    )


def sana_transformer(**other: Any) -> SanaTransformer2DModel:
    return SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=3,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=32,
        sample_size=8,
        patch_size=1,
        **other,
    )


def pixart_transformer(sample_size: int) -> PixArtTransformer2DModel:
    return PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=3,
        cross_attention_dim=16,
        caption_channels=32,
        sample_size=sample_size,
        patch_size=2,
    )


def sana_sprint() -> Any:
    transformer = sana_transformer(guidance_embeds=True, qk_norm="rms_norm_across_heads")
    scheduler = SCMScheduler(prediction_type="trigflow", sigma_data=0.5)
    return SanaSprintPipeline(tokenizer(), gemma(), dc(), transformer, scheduler)


def sana() -> Any:
    scheduler = DPMSolverMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0)
    return SanaPipeline(tokenizer(), gemma(), dc(), sana_transformer(), scheduler)


def pixart_alpha() -> Any:
    return PixArtAlphaPipeline(tokenizer(), t5(), kl(), pixart_transformer(8), DDPMScheduler())


def pixart_sigma() -> Any:
    return PixArtSigmaPipeline(tokenizer(), t5(), kl(), pixart_transformer(8), DPMSolverMultistepScheduler())


def flux(guidance_embeds: bool = False) -> Any:
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=8,
        axes_dims_rope=(4, 2, 2),
        guidance_embeds=guidance_embeds,
    )
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=guidance_embeds)
    vae = kl(shift_factor=0.1)
    return FluxPipeline(scheduler, vae, clip(8), tokenizer(), t5(), tokenizer(), transformer)


def flux_dev() -> Any:
    return flux(guidance_embeds=True)


def stable_diffusion_3() -> Any:
    transformer = SD3Transformer2DModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        num_layers=3,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pooled_projection_dim=16,
        pos_embed_max_size=12,
        qk_norm="rms_norm",
        dual_attention_layers=(0,),
    )
    return StableDiffusion3Pipeline(
        transformer,
        FlowMatchEulerDiscreteScheduler(shift=3.0),
        kl(shift_factor=0.06),
        clip(8, 8),
        tokenizer(),
        clip(8, 8),
        tokenizer(),
        t5(),
        tokenizer(),
    )


def sdxl_turbo() -> Any:
    unet = UNet2DConditionModel(
        block_out_channels=(8, 16, 16),
        layers_per_block=1,
        sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 2, 2),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 1, 1),
        projection_class_embeddings_input_dim=8 * 6 + 16,
        cross_attention_dim=24,
        norm_num_groups=4,
    )
    scheduler = EulerAncestralDiscreteScheduler(timestep_spacing="trailing")
    return StableDiffusionXLPipeline(kl(), clip(8), clip(16, 16), tokenizer(), tokenizer(), unet, scheduler)


def z_image() -> Any:
    transformer = ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=3,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[8, 4, 4],
        axes_lens=[256, 32, 32],
    )
    vae = kl(shift_factor=0.1)
    return ZImagePipeline(FlowMatchEulerDiscreteScheduler(shift=3.0), vae, qwen3(), tokenizer(), transformer)


def qwen_image() -> Any:
    transformer = QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=3,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(8, 4, 4),
    )
    vae = AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 2],
        num_res_blocks=1,
        temperal_downsample=[False],
        latents_mean=[0.1, 0.0, -0.1, 0.2],
        latents_std=[1.1, 0.9, 1.0, 1.2],
    )
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    return QwenImagePipeline(scheduler, vae, qwen_vl(), tokenizer(64), transformer)


def auraflow() -> Any:
    """Text and image are apart in the first list of blocks, one sequence in the second."""
    transformer = AuraFlowTransformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_mmdit_layers=2,
        num_single_dit_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pos_embed_max_size=64,
    )
    encoder = UMT5EncoderModel(UMT5Config(vocab_size=32, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2))
    return AuraFlowPipeline(tokenizer(), encoder, kl(), transformer, FlowMatchEulerDiscreteScheduler(shift=1.73))


def hunyuan_dit() -> Any:
    """Its later blocks read the earlier ones' outputs again, and it has two prompt embeddings."""
    transformer = HunyuanDiT2DModel(
        sample_size=8,
        num_layers=4,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        in_channels=4,
        cross_attention_dim=32,
        cross_attention_dim_t5=32,
        pooled_projection_dim=16,
        hidden_size=16,
        activation_fn="gelu-approximate",
    )
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    bert = BertModel(BertConfig(vocab_size=32, hidden_size=32, **sizes))
    others = (None, None, False, t5(), tokenizer(256))
    return HunyuanDiTPipeline(kl(), bert, tokenizer(77), transformer, DDPMScheduler(), *others)


BUILDERS: dict[str, Callable[[], Any]] = {
    "sana_sprint": sana_sprint,
    "sana": sana,
    "pixart_alpha": pixart_alpha,
    "pixart_sigma": pixart_sigma,
    "flux_schnell": flux,
    "flux_dev": flux_dev,
    "stable_diffusion_3": stable_diffusion_3,
    "sdxl_turbo": sdxl_turbo,
    "z_image": z_image,
    "qwen_image": qwen_image,
}


NOT_NAMED: dict[str, Callable[[], Any]] = {"auraflow": auraflow, "hunyuan_dit": hunyuan_dit}
"""Families that `vhs.generators.families` does not name."""


def save(name: str, folder: Path) -> Path:
    """A family's tiny pipeline on disk; every tensor is random, also those that start at zero or one."""
    torch.manual_seed(0)
    pipeline = {**BUILDERS, **NOT_NAMED}[name]()
    for component in pipeline.components.values():
        if isinstance(component, torch.nn.Module):
            for parameter in component.parameters():
                parameter.data.add_(torch.randn_like(parameter) * 0.05)
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder
