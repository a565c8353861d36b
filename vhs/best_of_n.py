"""Best-of-N on one prompt: encode -> prefix -> score -> select -> finish -> decode (arXiv 2603.22492, section 3).

A verifier says what it reads, and no stage runs that nobody reads:

    reads      every candidate                   the winner in prod, every candidate in dev
    hidden     blocks 0..b                       blocks b+1.., decode
    latent     all blocks                        decode
    image      all blocks, decode                -
    nothing    -                                 all blocks, decode
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vhs import select
from vhs.config.run import RunConfig, load_config
from vhs.errors import RunError
from vhs.generators.memory import MicroBatches
from vhs.records import Prefix, Prompt, Score, Selection, TextEmbedding
from vhs.seeding import candidate_seed
from vhs.stages import StageTimes

if TYPE_CHECKING:
    from PIL.Image import Image

    from vhs.generators.base import Generator
    from vhs.verifiers.base import Verifier

NoiseSource = Callable[[Prompt, int], torch.Tensor]


@dataclass
class Result:
    """What came of one prompt.

    `best_index` is the winner among `num_samples` candidates, `score` the verifier's answers in full (None without a
    verifier), `images` the pictures that were decoded, by candidate: the winner's alone in prod.
    """

    prompt: Prompt
    num_samples: int
    selection: Selection
    images: dict[int, Image]
    score: Score | None = None
    remake: Callable[[], dict[int, Image]] | None = field(default=None, repr=False)

    @property
    def best_index(self) -> int:
        """The winner, from 0."""
        return self.selection.index

    @property
    def image(self) -> Image:
        """The winner's picture."""
        return self.images[self.best_index]

    @property
    def scores(self) -> list[float]:
        """One score a candidate; empty without a verifier."""
        return [] if self.score is None else self.score.score.tolist()

    @property
    def candidates(self) -> list[Image]:
        """Every candidate's picture. Those not decoded yet are made now, from the same noise."""
        if len(self.images) < self.num_samples:
            assert self.remake is not None, "a result of another run's folder has no generator"
            self.images = {**self.remake(), **self.images}
        return [self.images[index] for index in range(self.num_samples)]


class BestOfN:
    """The method, given a generator and a verifier (None: candidate 0 wins)."""

    def __init__(
        self,
        generator: Generator,
        verifier: Verifier | None = None,
        *,
        num_samples: int = 8,
        seed: int = 42,
        mode: str = "prod",
        micro_batch: int | None = 8,
        selection: str = "argmax",
        tie: str = "first",
        times: StageTimes | None = None,
    ) -> None:
        """Keywords are the configuration's keys; `mode` is `generation_mode`. Raises ConfigError where generator and
        verifier do not fit."""
        if verifier is not None and verifier.reads == "hidden":
            generator.info.require_block(verifier.block)
            generator.info.require_width(verifier.width)
        self.generator = generator
        self.verifier = verifier
        self.num_samples = num_samples
        self.seed = seed
        self.mode = mode
        self.micro_batch = micro_batch
        self.selection = selection
        self.tie = tie
        self.times = times or StageTimes()
        self._scored = MicroBatches(micro_batch, "candidates to score")

    @classmethod
    def from_config(cls, config: str | Path | RunConfig, overrides: Mapping[str, Any] | None = None) -> BestOfN:
        """Generator and verifier of a configuration, loaded. A call returns the winner alone, whatever
        `generation_mode` says, unless `overrides` name it. `noise: published` is a run's affair and is not read here.

        Raises ConfigError or CheckpointError.
        """
        from vhs.resolve import load_generator, load_verifier, settle

        overrides = {"generation_mode": "prod", **(overrides or {})}
        config = config.changed(**overrides) if isinstance(config, RunConfig) else load_config(config, overrides)
        config = settle(config)
        return cls.of(config, load_generator(config), load_verifier(config))

    @classmethod
    def of(cls, config: RunConfig, generator: Generator, verifier: Verifier | None) -> BestOfN:
        """The same from parts that are loaded already."""
        return cls(
            generator,
            verifier,
            num_samples=config.num_samples,
            seed=config.seed,
            mode=config.generation_mode,
            micro_batch=config.micro_batch,
            selection=config.selection,
            tie=config.tie,
        )

    def __call__(
        self,
        prompt: str | Prompt,
        num_samples: int | None = None,
        seed: int | None = None,
        candidates: bool = False,
        noise: NoiseSource | None = None,
    ) -> Result:
        """The best of `num_samples` candidates for a prompt.

        A plain text has prompt id 0. `candidates` decodes all of them at once, as `mode="dev"` does. `noise(prompt, N)`
        replaces the noise of (seed, prompt id, candidate index). Raises RunError for a score that is not finite.
        """
        prompt = Prompt(0, prompt) if isinstance(prompt, str) else prompt
        count, seed = num_samples or self.num_samples, self.seed if seed is None else seed
        source = noise or (lambda one, n: self.generator.noise([candidate_seed(seed, one.id, i) for i in range(n)]))
        draws = source(prompt, count)
        with self.times.stage("encode"):
            text = self.generator.encode([prompt.text])[0]
        state, score = self._score(prompt, draws, text)
        chosen = self._select(prompt, score, seed)
        wanted = list(range(count)) if candidates or self.mode == "dev" else [chosen.index]
        pictures = self._pictures(state, text, wanted)
        return Result(
            prompt,
            count,
            chosen,
            pictures,
            score,
            lambda: self._pictures(self._start(draws, text)[0], text, list(range(count))),
        )

    def _start(self, draws: torch.Tensor, text: TextEmbedding) -> tuple[Any, Any]:
        """(state to go on from, what the verifier reads) of N candidates; the state is noise, Prefix, latents or
        pictures."""
        reads = "nothing" if self.verifier is None else self.verifier.reads
        if reads == "nothing":
            return draws, len(draws)
        if reads == "hidden":
            with self.times.stage("prefix", len(draws)):
                prefix = self.generator.prefix(draws, text, self.verifier.block, self.micro_batch)
            return prefix, prefix.hidden
        latents = self._generate(draws, text)
        if reads == "latent":
            return latents, latents
        pictures = self._decode(latents)
        return pictures, pictures

    def _score(self, prompt: Prompt, draws: torch.Tensor, text: TextEmbedding) -> tuple[Any, Score | None]:
        state, features = self._start(draws, text)
        if self.verifier is None:
            return state, None
        with self.times.stage("score", len(draws)):
            if isinstance(features, int):
                score = self.verifier.score(prompt.text, features)
            else:
                parts = self._scored.map(lambda piece: self.verifier.score(prompt.text, features[piece]), len(draws))
                score = _joined(parts)
        require_finite(prompt, score)
        return state, score

    def _select(self, prompt: Prompt, score: Score | None, seed: int) -> Selection:
        if score is None:
            return Selection(0)
        if self.selection == "random_yes":
            return select.random_yes(score.correct.tolist(), candidate_seed(seed, prompt.id, -1))
        return select.argmax(score.score.tolist(), self.tie)

    def _pictures(self, state: Any, text: TextEmbedding, wanted: list[int]) -> dict[int, Image]:
        """Pictures of the wanted candidates, from wherever they stopped."""
        if isinstance(state, list):
            return {index: state[index] for index in wanted}
        reads = "nothing" if self.verifier is None else self.verifier.reads
        if isinstance(state, Prefix):
            with self.times.stage("finish", len(wanted)):
                latents = self.generator.finish(state[wanted], self.micro_batch)
        else:
            latents = self._generate(state[wanted], text) if reads == "nothing" else state[wanted]
        return dict(zip(wanted, self._decode(latents), strict=True))

    def _generate(self, draws: torch.Tensor, text: TextEmbedding) -> torch.Tensor:
        with self.times.stage("generate", len(draws)):
            return self.generator.generate(draws, text, self.micro_batch)

    def _decode(self, latents: torch.Tensor) -> list[Image]:
        with self.times.stage("decode", len(latents)):
            return self.generator.decode(latents, self.micro_batch)


def require_finite(prompt: Prompt, score: Score) -> None:
    """Raises RunError, naming prompt and candidate, for a score that is NaN or infinite."""
    for index, value in enumerate(score.score.tolist()):
        if not math.isfinite(value):
            raise RunError(
                f"prompt {prompt.id} ({prompt.text!r}): candidate {index} has score {value:g}; the weights of the "
                "verifier or the generator do not stand this precision, or are damaged: try dtype: float32"
            )


def _joined(parts: list[Score]) -> Score:
    """The scores of consecutive slices as one."""
    return Score(
        *(torch.cat([getattr(part, name) for part in parts]) for name in ("p_yes", "p_no", "correct", "score"))
    )
