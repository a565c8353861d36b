"""What the paper's generators cost, in FLOPs (two per multiply-add), counted on the meta device: no weight is read.

    python -m vhs.measure.flops

A pass is one candidate through the network once, without guidance (which doubles it); steps multiply it. The text
encoders run once per prompt, the decoder once per picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vhs.generators import replay
from vhs.generators.call_arguments import PipelineSettings
from vhs.generators.description import Description, describe
from vhs.generators.diffusers_pipeline import DiffusersPipeline, PipelineText
from vhs.generators.loading import quiet
from vhs.measure.stages import flop_counter

ARCHITECTURES = Path(__file__).parents[1] / "generators" / "architectures"
TERA = 1e12


@dataclass(frozen=True)
class Row:
    """A generator at the size and with the text length (`tokens` of each text encoder) that it was made for."""

    folder: str
    name: str
    side: int
    block: str
    text: tuple[tuple[str, int], ...]


ROWS = (
    Row("sana_sprint_1.6b", "SANA-Sprint 1.6B", 1024, "transformer_blocks.7", (("text_encoder", 470),)),
    Row("sana_1.5_1.6b", "SANA-1.5 1.6B", 1024, "transformer_blocks.7", (("text_encoder", 470),)),
    Row("pixart_alpha_dmd_512", "PixArt-alpha-DMD", 512, "transformer_blocks.7", (("text_encoder", 120),)),
    Row(
        "flux.1_schnell",
        "FLUX.1-schnell",
        1024,
        "transformer_blocks.7",
        (("text_encoder", 77), ("text_encoder_2", 256)),
    ),
    Row(
        "sd3.5_large_turbo",
        "SD3.5-large-turbo",
        1024,
        "transformer_blocks.7",
        (("text_encoder", 77), ("text_encoder_2", 77), ("text_encoder_3", 256)),
    ),
)
"""SANA keeps 300 of its text encoder's 470 tokens (its long instruction included)."""
KEPT_BY_SANA = 300


@dataclass(frozen=True)
class Cost:
    """FLOPs of one candidate's pass to the block and of a whole pass, of the text encoders and the decoder."""

    row: Row
    tokens: int
    width: int
    blocks: str
    prefix: int
    whole: int
    text: int
    decode: int


def cost(row: Row) -> Cost:
    """Counts one row."""
    description = describe(ARCHITECTURES / row.folder)
    alone = None if description.family.guided_by else 1.0
    settings = PipelineSettings(row.side, row.side, guidance_scale=alone, block=row.block, device="meta")
    with quiet():
        generator = DiffusersPipeline(description.skeleton, description, settings)
    text, noise = _embeddings(description, dict(row.text)), torch.zeros(1, *generator.info.latent_shape)
    with torch.device("meta"):
        prefix = counted(lambda: generator.prefix(noise, text))
        whole = counted(lambda: _one_pass(generator, noise, text))
        decode = counted(lambda: generator.pipeline.vae.decode(noise.to("meta")))
        encode = sum(counted(lambda one=one: _encode(description, *one)) for one in row.text)
    counts = "+".join(str(count or 1) for count in description.block_lists.values())
    return Cost(row, generator.info.tokens, generator.info.width, counts, prefix, whole, encode, decode)


def counted(work: Callable[[], Any]) -> int:
    """FLOPs of `work()`."""
    with torch.no_grad(), flop_counter() as counter:
        work()
    return counter.get_total_flops()


def _one_pass(generator: DiffusersPipeline, noise: torch.Tensor, text: PipelineText) -> None:
    """The network once, whole; what the scheduler would do with its output needs numbers."""
    call = generator.call(generator.pipeline, noise.to("meta"), [text.prompt])
    with replay.answering(generator.pipeline, text.calls, 1):
        replay.stopped(generator.pipeline, call, replay.Stop(0, generator.network, ()), 1, lambda: noise)


def _embeddings(description: Description, tokens: dict[str, int]) -> PipelineText:
    """What `encode_prompt` returns for one prompt, without numbers."""
    config, longest = description.network.config, max(tokens.values())
    if description.name == "FluxPipeline":
        made = (
            _zeros(1, longest, config.joint_attention_dim),
            _zeros(1, config.pooled_projection_dim),
            _zeros(longest, 3),
        )
    elif description.name == "StableDiffusion3Pipeline":
        clips = tokens["text_encoder"]
        made = (
            _zeros(1, clips + tokens["text_encoder_3"], config.joint_attention_dim),
            None,
            _zeros(1, config.pooled_projection_dim),
            None,
        )
    else:
        kept = KEPT_BY_SANA if description.name.startswith("Sana") else longest
        made = (_zeros(1, kept, config.caption_channels), _zeros(1, kept))
        made = made if description.name == "SanaSprintPipeline" else (*made, None, None)
    return PipelineText(made[0], None, "", (made,))


def _encode(description: Description, name: str, tokens: int) -> None:
    from transformers import AutoConfig

    with quiet():
        config = AutoConfig.from_pretrained(description.folder / name, trust_remote_code=False)
        encoder = description.component_class(name)(config).eval()
    encoder(torch.zeros(1, tokens, dtype=torch.long))


def _zeros(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, device="meta")


def table(costs: Iterable[Cost]) -> str:
    """Markdown, TFLOP."""
    lines = [
        "| generator | size | hidden state | blocks | block read | pass to it | whole pass | share | text | decode |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in costs:
        row = one.row
        figures = " | ".join(f"{value / TERA:.2f}" for value in (one.prefix, one.whole))
        share = f"{100 * one.prefix / one.whole:.0f} %"
        others = " | ".join(f"{value / TERA:.2f}" for value in (one.text, one.decode))
        sizes = f"{row.side} px | {one.tokens:,} x {one.width:,} | {one.blocks} | `{row.block}`"
        lines.append(f"| {row.name} | {sizes} | {figures} | {share} | {others} |")
    return "\n".join(lines)


def main() -> None:
    """Prints the table of docs/generators.md."""
    torch.set_num_threads(1)
    print(table([cost(row) for row in ROWS]))


if __name__ == "__main__":
    main()
