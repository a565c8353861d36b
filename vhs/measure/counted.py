"""FLOPs and bytes of one prompt's stages on the meta device: models without a weight, any size, no GPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from vhs.generators.base import stopped_at
from vhs.generators.sana_sprint import DECODED_PIXELS, SanaSprint
from vhs.generators.settings import GeneratorSettings
from vhs.generators.text import instruction
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


class Counting:
    """Adds up the stages of one prompt as they run."""

    def __init__(self, verifier: LlavaVerifier, memory: LiveMemory) -> None:
        self.parts, self.memory = parts_of(verifier), memory
        self.stages: dict[str, CountedStage] = {}

    @contextmanager
    def stage(self, name: str, needs: str | None = None, rest: str | None = None, times: int = 1) -> Iterator[None]:
        """Counts what runs inside the context as if it ran `times` times, one after the other; `rest` names FLOPs
        outside the verifier's parts (default: the stage)."""
        self.memory.restart()
        flops: Counter[str] = Counter()
        with counting(flops, rest or name, self.parts):
            yield
        flops = Counter({part: times * count for part, count in flops.items()})
        before = self.stages.get(name, CountedStage(name, needs, Counter(), 0))
        peak = max(before.tensors, self.memory.peak)
        self.stages[name] = CountedStage(name, needs, before.flops + flops, peak)


@torch.no_grad()
def count_prompt(generator: SanaSprint, verifier: LlavaVerifier, candidates: int) -> list[CountedStage]:
    """The stages of best-of-`candidates` in prod, of models on the meta device, in micro-batches as a run has them.

    The order of work is `BestOfN`'s, without what needs numbers: choosing, and pictures made of pixels. Whole
    micro-batches cost the same, so one of them is counted, beside the state that is kept of those before it.
    """
    with LiveMemory() as memory:
        counted = Counting(verifier, memory)
        with counted.stage("text", "text_encoder"):
            text = _text(generator)
        state = None
        (first, more), *rest = _pieces(candidates, verifier.micro_batch or candidates)
        for count, times in ((first, 1), (first, more - 1), *rest):
            if times:
                state = _candidates(counted, generator, verifier, text, count, times)
        if verifier.reads == "hidden":
            with counted.stage("suffix"):
                state = generator.finish(state)
        if verifier.reads != "image":
            with counted.stage("decode", "autoencoder"):
                _decode(generator, state)
    return list(counted.stages.values())


def _pieces(count: int, most: int) -> list[tuple[int, int]]:
    """`count` in pieces of at most `most`: (size, how many of that size)."""
    whole, left = divmod(count, min(count, most))
    return [(min(count, most), whole), *([(left, 1)] if left else [])]


def _candidates(
    counted: Counting, generator: SanaSprint, verifier: LlavaVerifier, text: TextEmbedding, count: int, times: int
) -> Any:
    """One micro-batch through the generator and the verifier; returns the state of its best candidate."""
    noise = generator.noise(list(range(count)))
    if verifier.reads == "hidden":
        with counted.stage("prefix", times=times):
            read, states = stopped_at(generator, noise, text, verifier.blocks)
    else:
        with counted.stage("blocks", times=times):
            states = read = generator.generate(noise, text)
    if verifier.reads == "image":
        for pictures, repeats in _pieces(count, _decoded_at_once(generator)):
            with counted.stage("decode", "autoencoder", times=times * repeats):
                _decode(generator, states[:pictures])
    with counted.stage("score", rest="LLM", times=times):
        _score(verifier, read)
    return states[[0]]


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
    """Tokens that the text encoder sees, padding included; an instruction of one's own counts as SANA's does."""
    kept = settings.max_sequence_length or KEPT_TOKENS
    return kept + (INSTRUCTION_TOKENS if instruction(settings.complex_human_instruction) else 0)


def counted_question(tokens: int) -> list[int]:
    """Ids of a question of so many tokens with the picture in their middle."""
    return [*range(tokens // 2), IMAGE_INDEX, *range(tokens - tokens // 2)]


def _text(generator: SanaSprint) -> TextEmbedding:
    kept = generator.settings.max_sequence_length or KEPT_TOKENS
    ids = torch.zeros(1, text_tokens(generator.settings), dtype=torch.long, device="meta")
    embeds = generator.pipeline.text_encoder(ids)[0][:, :kept].clone()
    return TextEmbedding(embeds, torch.ones(1, kept, dtype=torch.long, device="meta"))


def _score(verifier: LlavaVerifier, read: torch.Tensor) -> None:
    next_token_logits(verifier.llm, verifier.connector(_read(verifier, read)), counted_question(QUESTION_TOKENS))


def _read(verifier: LlavaVerifier, piece: torch.Tensor) -> torch.Tensor:
    if verifier.reads != "image":
        return verifier.reader(piece).to(verifier.dtype)
    side = verifier.reader.tower.tower.config.image_size
    return verifier.reader.tower(torch.empty(len(piece), 3, side, side, device="meta"))


def _decoded_at_once(generator: SanaSprint) -> int:
    height, width = generator.info.image_size
    at_once = max(1, DECODED_PIXELS // (height * width))
    return min(at_once, generator.micro_batch or at_once)


def _decode(generator: SanaSprint, latents: torch.Tensor) -> None:
    generator.pipeline.vae.decode(latents.to(generator.pipeline.vae.dtype), return_dict=False)
