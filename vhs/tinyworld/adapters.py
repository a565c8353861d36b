"""A stage beside the others: a LoRA adapter that shifts the shipped generator, for the ablation of shifted generators.

The one-step student is adapted to its teacher's samples under a weaker guidance (2 instead of 4). The adapter is saved
halfway and at the end, in the format of `SanaSprintPipeline.save_lora_weights`, below `outputs/paper/adapters/`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import SanaSprintPipeline, SanaTransformer2DModel
from peft import LoraConfig, get_peft_model_state_dict
from tqdm import tqdm

from vhs.tinyworld import recipe, student, teacher, text_encoder

STAGE = "adapters"
FOLDER = Path("outputs/paper/adapters")
PAIRS, RANK, GUIDANCE_SCALE = 2_048, 4, 2.0


@torch.no_grad()
def pairs(device: str) -> tuple[torch.Tensor, ...]:
    """Noise and the teacher's samples (n, 16, 8, 8), ids and mask of their captions (n, 16)."""
    model, tokens = teacher.load(device), text_encoder.tokenizer()
    empty = text_encoder.tokenize(tokens, [""])
    shards = range(1000, 1000 + PAIRS // student.PER_SHARD)
    texts = [text for shard in shards for text in student.captions_of_shard(shard)]
    ids, mask = (part.to(device) for part in text_encoder.tokenize(tokens, texts))
    z = torch.cat([student.noise_of_shard(shard) for shard in shards]).to(device)
    steps = {"steps": student.EULER_STEPS, "guided": student.GUIDED_STEPS, "scale": GUIDANCE_SCALE}
    parts = tqdm(torch.arange(len(z)).split(student.BATCH), desc="teacher's samples", mininterval=10)
    with recipe.autocast(device):
        x0 = [teacher.sample(model, z[part], ids[part], mask[part], empty, **steps).float() for part in parts]
    return z, torch.cat(x0), ids, mask


def save(transformer: SanaTransformer2DModel, name: str) -> None:
    """Write the adapter as diffusers reads it."""
    SanaSprintPipeline.save_lora_weights(
        FOLDER / name, transformer_lora_layers=get_peft_model_state_dict(transformer),
        transformer_lora_adapter_metadata=transformer.peft_config["default"].to_dict(),
    )  # fmt: skip


def main() -> None:
    args = recipe.arguments(STAGE, steps=300)
    torch.manual_seed(0)
    z, x0, ids, mask = pairs(args.device)
    pipeline = SanaSprintPipeline.from_pretrained(recipe.CKPTS / "sana_sprint", torch_dtype=torch.float32).to(
        args.device
    )
    with torch.no_grad():
        text = torch.cat([
            pipeline.text_encoder(input_ids=i, attention_mask=m).last_hidden_state
            for i, m in zip(ids.split(256), mask.split(256), strict=True)
        ])  # fmt: skip
    transformer = pipeline.transformer.requires_grad_(False)
    transformer.add_adapter(
        LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=["to_q", "to_k", "to_v", "to_out.0"])
    )

    def loss_of(step: int) -> torch.Tensor:
        if step == args.steps // 2:
            save(transformer, "lora_50")
        chosen = torch.randint(len(z), (student.BATCH,), generator=torch.Generator().manual_seed(step)).to(args.device)
        ones = torch.ones(student.BATCH, device=args.device)
        velocity = transformer(
            z[chosen], encoder_hidden_states=text[chosen], encoder_attention_mask=mask[chosen], timestep=ones,
            guidance=teacher.GUIDANCE * ones, return_dict=False,
        )[0]  # fmt: skip
        return (z[chosen] - velocity - x0[chosen]).square().mean()

    recipe.train(STAGE, transformer, loss_of, steps=args.steps, peak=1e-3, warmup=20, evaluate_every=50, weight_decay=0)
    save(transformer, "lora_100")


if __name__ == "__main__":
    main()
