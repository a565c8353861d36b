"""Stage 3: the text encoder and the teacher, trained together by flow matching in SANA's parametrisation.

The transformer is diffusers' `SanaTransformer2DModel` with SANA-Sprint's options and 20 blocks; the text encoder is a
two-layer Gemma-2. With data x0 of unit variance, noise z and s in (0, 1), the input is x_s = (1 - s) x0 + s z and the
target the flow velocity z - x0; a tenth of the captions are empty, for classifier-free guidance.
"""

from __future__ import annotations

import json

import numpy as np
import torch
from diffusers import SanaTransformer2DModel
from torch import nn
from tqdm import tqdm
from transformers import Gemma2Config, Gemma2Model, GemmaTokenizer

from vhs.tinyworld import autoencoder, recipe
from vhs.tinyworld.scenes import sample_scene
from vhs.tinyworld.tokenizers import captions, gemma_tokenizer

STAGE = "teacher"
BATCH = 64
SCENES = 48_000
TEXT_TOKENS = 16
GUIDANCE = 0.45
"""The embedded guidance the transformer always sees: the pipeline's default 4.5 times `guidance_embeds_scale`."""
TEXT_CHANNELS, WIDTH = 64, 96


def build_transformer() -> SanaTransformer2DModel:
    """The untrained transformer: 20 blocks of width 96 on 4 x 4 tokens, 3.1 M parameters."""
    return SanaTransformer2DModel(
        in_channels=16, out_channels=16, sample_size=8, patch_size=2, interpolation_scale=1.0, num_layers=20,
        num_attention_heads=WIDTH // 16, attention_head_dim=16, num_cross_attention_heads=4,
        cross_attention_head_dim=WIDTH // 4, cross_attention_dim=WIDTH, caption_channels=TEXT_CHANNELS,
        qk_norm="rms_norm_across_heads", guidance_embeds=True, guidance_embeds_scale=0.1,
    )  # fmt: skip


def build_text_encoder(vocabulary: int) -> Gemma2Model:
    """The untrained text encoder: two Gemma-2 layers of width 64."""
    config = Gemma2Config(
        vocab_size=vocabulary, hidden_size=TEXT_CHANNELS, intermediate_size=160, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16, query_pre_attn_scalar=16, pad_token_id=0,
        bos_token_id=2, eos_token_id=1, attn_logit_softcapping=None, max_position_embeddings=8192,
    )  # fmt: skip
    return Gemma2Model(config)


class TextToLatent(nn.Module):
    """Text encoder and transformer as one module: token ids in, flow velocity out."""

    def __init__(self, vocabulary: int):
        super().__init__()
        self.text_encoder = build_text_encoder(vocabulary)
        self.transformer = build_transformer()

    def forward(self, x: torch.Tensor, s: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """x (B, 16, 8, 8), s (B,), ids and mask (B, T) -> velocity (B, 16, 8, 8)."""
        text = self.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        guidance = torch.full_like(s, GUIDANCE)
        return self.transformer(
            x, encoder_hidden_states=text, encoder_attention_mask=mask, timestep=s, guidance=guidance, return_dict=False
        )[0]


def tokenizer() -> GemmaTokenizer:
    """The tokenizer every stage shares; the empty caption is a lone <bos>."""
    return gemma_tokenizer(captions())


def tokenize(tokens: GemmaTokenizer, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask, (B, 16) each, padded on the right as the pipeline does."""
    tokens.padding_side = "right"
    out = tokens(texts, padding="max_length", max_length=TEXT_TOKENS, truncation=True, return_tensors="pt")
    return out["input_ids"], out["attention_mask"]


def cache_latents(device: str) -> tuple[torch.Tensor, list[str]]:
    """Normalised latents (n, 16, 8, 8) float16 and captions of the teacher's scenes; made once, then read."""
    folder = recipe.WORK / STAGE
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "latents.npy"
    if not path.exists():
        model, texts, parts = autoencoder.load(device), [], []
        for start in tqdm(range(0, SCENES, 100), desc="scenes and latents", mininterval=10):
            scenes = [sample_scene(recipe.scene_seed(STAGE, start + i)) for i in range(100)]
            texts += [scene.caption for scene in scenes]
            with torch.no_grad(), torch.autocast(device, torch.bfloat16):
                z = model.encode(recipe.pictures(scenes).to(device)).latent.float() * model.config.scaling_factor
            parts.append(z.cpu().half().numpy())
        (folder / "captions.json").write_text(json.dumps(texts))
        np.save(folder / "latents.partial.npy", np.concatenate(parts))
        (folder / "latents.partial.npy").replace(path)
    return torch.from_numpy(np.load(path)), json.loads((folder / "captions.json").read_text())


def flow_loss(model, latents, ids, mask, empty, step: int, device: str) -> torch.Tensor:
    """Mean squared error of the velocity on one batch; the random draws are a function of `step`."""
    draw = torch.Generator().manual_seed(step)
    chosen = torch.randint(len(latents), (BATCH,), generator=draw)
    x0 = latents[chosen].float()
    z = torch.randn(x0.shape, generator=draw)
    s = torch.sigmoid(0.4 + 1.1 * torch.randn(BATCH, generator=draw))
    drop = torch.rand(BATCH, generator=draw) < 0.1
    batch_ids = torch.where(drop[:, None], empty[0], ids[chosen]).to(device)
    batch_mask = torch.where(drop[:, None], empty[1], mask[chosen]).to(device)
    blend = s.view(-1, 1, 1, 1)
    x = ((1 - blend) * x0 + blend * z).to(device)
    with torch.autocast(device, torch.bfloat16):
        velocity = model(x, s.to(device), batch_ids, batch_mask)
    return (velocity.float() - (z - x0).to(device)).square().mean()


@torch.no_grad()
def sample(model: TextToLatent, z: torch.Tensor, ids, mask, empty, *, steps: int, scale: float) -> torch.Tensor:
    """Deterministic Euler sampling from noise z (B, 16, 8, 8) with classifier-free guidance; returns x0."""
    x, count = z, len(z)
    both_ids = torch.cat([ids, empty[0].expand(count, -1).to(ids)])
    both_mask = torch.cat([mask, empty[1].expand(count, -1).to(mask)])
    grid = torch.linspace(1, 0, steps + 1)
    for now, then in zip(grid[:-1], grid[1:], strict=True):
        s = torch.full((2 * count,), float(now), device=z.device)
        told, untold = model(torch.cat([x, x]), s, both_ids, both_mask).float().chunk(2)
        x = x + (then - now) * (untold + scale * (told - untold))
    return x


def main() -> None:
    args = recipe.arguments(STAGE, steps=7_000)
    torch.manual_seed(0)
    tokens = tokenizer()
    model = TextToLatent(len(tokens)).to(args.device)
    latents, texts = cache_latents(args.device)
    distinct = sorted(set(texts))
    table = {text: i for i, text in enumerate(distinct)}
    rows = torch.tensor([table[text] for text in texts])
    ids, mask = (t[rows] for t in tokenize(tokens, distinct))
    empty = tokenize(tokens, [""])
    step_model = torch.compile(model)
    loss_of = lambda step: flow_loss(step_model, latents, ids, mask, empty, step, args.device)  # noqa: E731
    recipe.train(STAGE, model, loss_of, steps=args.steps, peak=1.5e-3, warmup=300, average=0.999)
    folder = recipe.WORK / STAGE
    torch.save(model.state_dict(), folder / "model.pt")


def load(device: str) -> TextToLatent:
    """The trained teacher (averaged weights), from the work folder."""
    model = TextToLatent(len(tokenizer())).to(device)
    model.load_state_dict(torch.load(recipe.WORK / STAGE / "model.pt", weights_only=True, map_location=device))
    return model.eval()


if __name__ == "__main__":
    main()
