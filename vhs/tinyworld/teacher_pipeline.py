"""The shipped teacher as a pipeline folder: a multi-step SANA generator of the tiny world, for `generator: diffusers`.

    python -m vhs.tinyworld.teacher_pipeline        # writes outputs/tiny_teacher; nothing is trained

Autoencoder and tokenizer are the shipped student's. The teacher always saw the same embedded guidance, so that its
embedding is a constant, which moves into the bias beside it; guidance is by a second pass then, as in any SANA.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SanaPipeline, SanaTransformer2DModel

from vhs.generators.loading import load_pipeline
from vhs.paths import PROJECT
from vhs.tinyworld import recipe, sana, teacher
from vhs.tinyworld.worlds import SANA

FOLDER = PROJECT / "outputs" / "tiny_teacher"
EMBEDDED = "time_embed."
ALONE = "time_embed.emb."


def build() -> SanaPipeline:
    """The pipeline, in float32. Time in the network is s in (0, 1), the scheduler's is 1000 s."""
    model = SANA.untrained()
    model.load_state_dict(teacher.shipped("cpu"))
    student = load_pipeline(recipe.CKPTS / "sana_sprint")
    return SanaPipeline(
        tokenizer=student.tokenizer,
        text_encoder=model.text_encoder.eval(),
        vae=student.vae,
        transformer=without_embedded_guidance(model.transformer),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
    )


@torch.no_grad()
def without_embedded_guidance(transformer: SanaTransformer2DModel) -> SanaTransformer2DModel:
    """The same function of latents, time and text at the guidance that the teacher was trained with."""
    config = {**transformer.config, "guidance_embeds": False, "timestep_scale": 0.001}
    config.pop("_use_default_values", None)  # names the values that diffusers would set back
    plain = SanaTransformer2DModel.from_config(config).eval()
    embed = transformer.time_embed
    guidance = embed.guidance_condition_proj(torch.tensor([sana.GUIDANCE]))
    state = dict(transformer.state_dict())
    for layer in ("linear_1", "linear_2"):
        for kind in ("weight", "bias"):
            state.pop(f"{EMBEDDED}guidance_embedder.{layer}.{kind}")
            name = f"timestep_embedder.{layer}.{kind}"
            state[ALONE + name] = state.pop(EMBEDDED + name)
    last = f"{ALONE}timestep_embedder.linear_2.bias"
    state[last] = state[last] + embed.guidance_embedder(guidance)[0]
    plain.load_state_dict(state)
    return plain.requires_grad_(False)


def write(folder: Path = FOLDER) -> Path:
    """Saves the pipeline in float32."""
    build().save_pretrained(folder)
    return folder


if __name__ == "__main__":
    recipe.command(lambda: print(write()))
