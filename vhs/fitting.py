"""`micro_batch: auto`: as many candidates at once as fit into a GPU's memory beside the loaded models."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from vhs.generators.base import stopped_at
from vhs.records import Prompt
from vhs.verifiers.base import ask, blocks_of

if TYPE_CHECKING:
    from vhs.generators.base import Generator
    from vhs.verifiers.base import Verifier

log = logging.getLogger(__name__)
SHARE = 0.5
"""Of the free memory; the rest is for the allocator's gaps, the decoder and the judge."""
MOST = 64
"""More candidates at once do not keep a GPU busier, and their states are kept until they are scored."""
TRIED = (1, 1, 3)
"""Candidates of the passes that are measured; the first one brings what libraries allocate once."""


def that_fit(free: int, one: int, three: int) -> int:
    """How many candidates fit into `free` bytes, a power of two up to MOST; `one` and `three` of them took so many."""
    each = max((three - one) / (TRIED[-1] - 1), 1)
    count = max(1, min(MOST, int(1 + (SHARE * free - one) / each)))
    return 1 << (count.bit_length() - 1)


def fit_micro_batch(generator: Generator, verifier: Verifier | None, device: str) -> None:
    """Sets `micro_batch` of both by what passes of a few candidates need at their peak."""
    import torch

    _, one, three = (_peak(generator, verifier, device, count) for count in TRIED)
    free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    size = that_fit(free, one, three)
    for model in (generator, verifier):
        if getattr(model, "micro_batch", None) is not None:
            model.micro_batch = size
    log.info("micro_batch: auto is %d here: %.1f GiB free", size, free / 2**30)


def _peak(generator: Generator, verifier: Verifier | None, device: str, count: int) -> int:
    """Bytes of a pass of `count` candidates, to their scores, beside what was there."""
    import torch

    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    _pass(generator, verifier, count)
    return torch.cuda.max_memory_allocated(device) - before


def _pass(generator: Generator, verifier: Verifier | None, count: int) -> Any:
    """What every candidate of a prompt goes through."""
    prompt = Prompt(0, "a photo of a cat")
    text, noise = generator.encode([prompt.text])[0], generator.noise(list(range(count)))
    match verifier.reads if verifier else "nothing":
        case "hidden":
            return ask(verifier, prompt, stopped_at(generator, noise, text, blocks_of(verifier))[0])
        case "latent":
            return ask(verifier, prompt, generator.generate(noise, text))
        case "image":
            return ask(verifier, prompt, generator.decode(generator.generate(noise, text)))
    return generator.generate(noise, text)
