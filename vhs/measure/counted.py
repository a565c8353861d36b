"""FLOPs and bytes of one prompt's stages on the meta device: models without a weight, any size, no GPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from vhs.generators.sana_sprint import DECODED_PIXELS, SanaSprint
from vhs.generators.settings import GeneratorSettings
from vhs.measure.memory import LiveMemory, size
from vhs.measure.stages import counting, parts_of
from vhs.records import TextEmbedding
from vhs.verifiers.conversation import IMAGE_INDEX
from vhs.verifiers.llava import LlavaVerifier, next_token_logits

KEPT_TOKENS = 300
"""Of them the transformer sees so many, unless `max_sequence_length` says otherwise."""
INSTRUCTION_TOKENS = 170
"""What SANA's long instruction adds to the text encoder's tokens (470 instead of 300)."""
QUESTION_TOKENS = 110
"""Text around the picture in the published question about a short prompt, with Qwen2.5's tokenizer."""


@dataclass(frozen=True)
class CountedStage:
    """One stage of a prompt: the model it needs beside those that stay on the device, its FLOPs by part, its tensors'
    peak in bytes."""

    name: str
    needs: str | None
    flops: Counter[str]
    tensors: int


@dataclass
class Counting:
    """The stages of one prompt as they are counted."""

    verifier: LlavaVerifier
    memory: LiveMemory
    stages: list[CountedStage] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str, needs: str | None = None, rest: str | None = None) -> Iterator[None]:
        """Counts what runs inside the context; `rest` names FLOPs outside the verifier's parts (default: the stage)."""
        self.memory.restart()
        flops: Counter[str] = Counter()
        with counting(flops, rest or name, parts_of(self.verifier)):
            yield
        self.stages.append(CountedStage(name, needs, flops, self.memory.peak))


@torch.no_grad()
def count_prompt(generator: SanaSprint, verifier: LlavaVerifier, candidates: int) -> list[CountedStage]:
    """The stages of best-of-`candidates` in prod, of models on the meta device, in micro-batches as a run has them.

    The order of work is `BestOfN`'s, without what needs numbers: choosing, and pictures made of pixels.
    """
    with LiveMemory() as memory:
        counted = Counting(verifier, memory)
        with counted.stage("text", "text_encoder"):
            text = _text(generator)
        noise = generator.noise(list(range(candidates)))
        if verifier.reads == "hidden":
            with counted.stage("prefix"):
                prefix = generator.prefix(noise, text, verifier.block)
            with counted.stage("score", rest="LLM"):
                _score(verifier, prefix.hidden.split(verifier.micro_batch or candidates))
            with counted.stage("suffix"):
                latents = generator.finish(prefix[[0]])
            del prefix
        else:
            with counted.stage("blocks"):
                latents = generator.generate(noise, text)
            if verifier.reads == "latent":
                with counted.stage("score", rest="LLM"):
                    _score(verifier, latents.split(verifier.micro_batch or candidates))
        if verifier.reads == "image":
            with counted.stage("decode", "autoencoder"):
                _decode(generator, latents)
            with counted.stage("score", rest="LLM"):
                _score(verifier, torch.empty(candidates, device="meta").split(verifier.micro_batch or candidates))
        else:
            with counted.stage("decode", "autoencoder"):
                _decode(generator, latents[:1])
    return counted.stages


def weights(generator: SanaSprint, verifier: LlavaVerifier) -> dict[str, int]:
    """Bytes of each model."""
    tower = parts_of(verifier).get("re-encode")
    return {
        "text_encoder": size(generator.pipeline.text_encoder),
        "transformer": size(generator.transformer),
        "autoencoder": size(generator.pipeline.vae),
        "verifier": size(verifier.llm) + size(verifier.connector) + (size(tower) if tower is not None else 0),
    }


def text_tokens(settings: GeneratorSettings) -> int:
    """Tokens that the text encoder sees, padding included."""
    kept = settings.max_sequence_length or KEPT_TOKENS
    return kept + (INSTRUCTION_TOKENS if settings.complex_human_instruction in (None, True) else 0)


def counted_question(tokens: int) -> list[int]:
    """Ids of a question of so many tokens with the picture in their middle."""
    return [*range(tokens // 2), IMAGE_INDEX, *range(tokens - tokens // 2)]


def _text(generator: SanaSprint) -> TextEmbedding:
    kept = generator.settings.max_sequence_length or KEPT_TOKENS
    ids = torch.zeros(1, text_tokens(generator.settings), dtype=torch.long, device="meta")
    embeds = generator.pipeline.text_encoder(ids)[0][:, :kept].clone()
    return TextEmbedding(embeds, torch.ones(1, kept, dtype=torch.long, device="meta"))


def _score(verifier: LlavaVerifier, pieces: Any) -> None:
    question = counted_question(QUESTION_TOKENS)
    for piece in pieces:
        next_token_logits(verifier.llm, verifier.connector(_read(verifier, piece)), question)


def _read(verifier: LlavaVerifier, piece: torch.Tensor) -> torch.Tensor:
    if verifier.reads != "image":
        return verifier.reader(piece).to(verifier.dtype)
    side = verifier.reader.tower.tower.config.image_size
    return verifier.reader.tower(torch.empty(len(piece), 3, side, side, device="meta"))


def _decode(generator: SanaSprint, latents: torch.Tensor) -> None:
    height, width = generator.info.image_size
    at_once = max(1, DECODED_PIXELS // (height * width))
    for piece in latents.split(min(at_once, generator.micro_batch or at_once)):
        generator.pipeline.vae.decode(piece.to(generator.pipeline.vae.dtype), return_dict=False)
