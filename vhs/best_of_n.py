"""Best-of-N on one prompt: encode -> prefix -> score -> select -> finish -> decode (arXiv 2603.22492, section 3).

A verifier says what it reads, and no stage runs that nobody reads:

    reads      every candidate                   the winner in prod, every candidate in dev
    hidden     blocks 0..b                       blocks b+1.., decode
    latent     all blocks                        decode
    image      all blocks, decode                -
    nothing    -                                 all blocks, decode

Where `selection` keeps several, they are finished and decoded in one batch. In a cascade the verifier keeps `keep`
candidates; those are finished and decoded, and a second verifier, which reads pictures, chooses among them.

In prod candidates stream through in micro-batches wherever a verifier scores each by itself: only the states of the
best are kept, so memory does not grow with N (vhs/streaming.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never, overload

from vhs import result as look
from vhs.choosing import choose, require_finite, score_and_choose
from vhs.config.run import RunConfig, load_config
from vhs.config.selection import rule_of
from vhs.errors import RunError
from vhs.generators.base import stopped_at
from vhs.records import Prefix, Prompt, Score, Selection, TextEmbedding
from vhs.resolve import resolve_models
from vhs.seeding import candidate_seed
from vhs.select import Rule
from vhs.stages import StageTimes
from vhs.streaming import Best, Stop, rows
from vhs.verifiers.base import ask, blocks_of

if TYPE_CHECKING:
    import pandas
    import torch
    from matplotlib.figure import Figure
    from PIL.Image import Image

    from vhs.generators.base import Generator
    from vhs.verifiers.base import Verifier

NoiseSource = Callable[[Prompt, int], "torch.Tensor"]
DAMAGED = "the generator overflows at this precision, or its weights are damaged: try dtype: float32"
Draw = Callable[[Sequence[int]], "torch.Tensor"]
States = Callable[[Sequence[int]], Any]
"""The states of some candidates."""


@dataclass(repr=False)
class Result:
    """What came of one prompt.

    `best_index` is the winner among `num_samples` candidates and the first of `picks`, `score` the verifier's answers
    in full (None without a verifier), `images` pictures by candidate: those of the picks alone in prod.
    `rerank_scores` are those of a cascade's second verifier, by candidate that the first has kept.
    """

    prompt: Prompt
    num_samples: int
    selection: Selection
    images: dict[int, Image]
    score: Score | None = None
    rerank_scores: dict[int, float] | None = None
    remake: Callable[[], dict[int, Image]] | None = field(default=None, repr=False)

    @property
    def best_index(self) -> int:
        """The winner, from 0."""
        return self.selection.index

    @property
    def picks(self) -> tuple[int, ...]:
        """The winner, and what `selection` keeps beside it."""
        return self.selection.picks

    @property
    def image(self) -> Image:
        """The winner's picture."""
        return self.images[self.best_index]

    @property
    def scores(self) -> list[float]:
        """One score per candidate; empty without a verifier."""
        return [] if self.score is None else self.score.score.tolist()

    @property
    def candidates(self) -> list[Image]:
        """Every candidate's picture. Those not decoded yet are made now, from the same noise."""
        if len(self.images) < self.num_samples:
            assert self.remake is not None, "a result of another run's folder has no generator"
            self.images = {**self.remake(), **self.images}
        return [self.images[index] for index in range(self.num_samples)]

    def __repr__(self) -> str:
        return look.summary(self.prompt.text, self.scores, self.best_index, self.num_samples)

    def _repr_html_(self) -> str:
        return look.strip(self.prompt.text, self.images, self.scores, self.best_index, self.num_samples)

    def top(self, k: int) -> list[tuple[int, float | None, Image]]:
        """(candidate, score, picture) of the k highest scores, best first. Pictures not decoded yet are made now."""
        pictures, scores = self.candidates, self.scores
        indices = look.order(scores, self.num_samples)[:k]
        return [(index, scores[index] if scores else None, pictures[index]) for index in indices]

    def save(self, folder: str | Path) -> Path:
        """Writes the decoded pictures, `best.png` and `result.json` into `folder`; returns it."""
        rows = look.table(self.score, self.best_index, self.num_samples)
        return look.save(folder, self.prompt.text, self.images, rows, self.best_index)

    def to_frame(self) -> pandas.DataFrame:
        """A pandas table, a row per candidate: score, p_yes, p_no, says_yes, best. Needs pandas."""
        return look.frame(look.table(self.score, self.best_index, self.num_samples))

    def plot(self) -> Figure:
        """A matplotlib figure: the decoded candidates in score order, the winner framed."""
        return look.plot(self.prompt.text, self.images, self.scores, self.best_index, self.num_samples)


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
        selection: str | dict[str, int] = "argmax",
        tie: str = "first",
        reranker: Verifier | None = None,
        keep: int = 1,
        stop_when: float | None = None,
        min_samples: int = 1,
        times: StageTimes | None = None,
    ) -> None:
        """Keywords are the configuration's keys; `mode` is `generation_mode`, `reranker` and `keep` are a cascade's
        second verifier, which reads pictures, and how many candidates it is shown. Generator and verifiers take the
        candidates in micro-batches of their own. Raises ConfigError where they do not fit."""
        if verifier is not None and verifier.reads == "hidden":
            generator.info.require_hidden(blocks_of(verifier), verifier.width)
        self.generator = generator
        self.verifier = verifier
        self.num_samples = num_samples
        self.seed = seed
        self.mode = mode
        self.rule = rule_of(selection)
        self.tie = tie
        self.reranker = reranker
        self.keep = keep
        self.stop = None if stop_when is None else Stop(stop_when, min_samples)
        self.times = times or StageTimes()

    @classmethod
    def from_config(cls, config: str | Path | RunConfig, overrides: Mapping[str, Any] | None = None) -> BestOfN:
        """Generator and verifier of a configuration, loaded. A call returns the winner alone, whatever
        `generation_mode` says, unless `overrides` name it. `noise: published` is a run's affair and is not read here.

        Raises ConfigError or CheckpointError.
        """
        overrides = {"generation_mode": "prod", **(overrides or {})}
        config = config.changed(**overrides) if isinstance(config, RunConfig) else load_config(config, overrides)
        return cls.of(config, *resolve_models(config).load())

    @classmethod
    def of(
        cls,
        config: RunConfig,
        generator: Generator,
        verifier: Verifier | None,
        reranker: Verifier | None = None,
        **keywords: Any,
    ) -> BestOfN:
        """The same from models that are loaded already."""
        return cls(
            generator,
            verifier,
            num_samples=config.num_samples,
            seed=config.seed,
            mode=config.generation_mode,
            selection=config.selection,
            tie=config.tie,
            reranker=reranker,
            keep=config.rerank.keep if config.rerank else 1,
            stop_when=config.stop_when,
            min_samples=config.min_samples,
            **keywords,
        )

    @overload
    def __call__(self, prompt: str | Prompt, **keywords: Any) -> Result: ...

    @overload
    def __call__(self, prompt: Sequence[str | Prompt], **keywords: Any) -> list[Result]: ...

    def __call__(
        self,
        prompt: str | Prompt | Sequence[str | Prompt],
        num_samples: int | None = None,
        seed: int | None = None,
        candidates: bool = False,
        noise: NoiseSource | None = None,
    ) -> Result | list[Result]:
        """The best of `num_samples` candidates for a prompt, or for each of a list of prompts.

        A plain text has prompt id 0, in a list its position there. `candidates` decodes all of them at once, as
        `mode="dev"` does. `noise(prompt, N)` replaces the noise of (seed, prompt id, candidate index). Raises RunError
        for a score that is not finite.
        """
        if not isinstance(prompt, str | Prompt):
            numbered = (Prompt(i, one) if isinstance(one, str) else one for i, one in enumerate(prompt))
            return [self(one, num_samples, seed, candidates, noise) for one in numbered]
        prompt = Prompt(0, prompt) if isinstance(prompt, str) else prompt
        count, seed = num_samples or self.num_samples, self.seed if seed is None else seed
        with self.times.stage("encode"):
            text = self.generator.encode([prompt.text])[0]
        draw = self._draw(prompt, count, seed, noise)
        if self._streams() and not (candidates or self.mode == "dev"):
            score, chosen, states = self._streamed(prompt, count, seed, draw, text)
        else:
            score, chosen, states = self._at_once(prompt, count, seed, draw, text)
        count = count if score is None else len(score)

        def pictures_of(wanted: list[int]) -> dict[int, Image]:
            return self._pictures(prompt, wanted, states(wanted), text)

        everyone = list(range(count)) if candidates or self.mode == "dev" else None
        second = None
        if self.reranker is not None:
            decoded = pictures_of(everyone or sorted(chosen.picks))
            second, chosen = self._rerank(prompt, chosen, decoded, seed)
            images = {index: decoded[index] for index in everyone or chosen.picks}
        else:
            images = pictures_of(everyone or list(chosen.picks))
        return Result(
            prompt, count, chosen, images, score, second, lambda: self(prompt, count, seed, True, noise).images
        )

    def _draw(self, prompt: Prompt, count: int, seed: int, noise: NoiseSource | None) -> Draw:
        """What draws the noise of some of `count` candidates: their own seeds', or rows of what `noise` has drawn."""
        given = cache(lambda: noise(prompt, count))

        def draw(wanted: Sequence[int]) -> torch.Tensor:
            with self.times.stage("noise", len(wanted)):
                if noise is not None:
                    return given()[list(wanted)]
                return self.generator.noise([candidate_seed(seed, prompt.id, index) for index in wanted])

        return draw

    def _streams(self) -> bool:
        """Whether candidates can go through the verifier a micro-batch at a time, with the states of the best kept."""
        rule = self.rule.name if self.reranker is None else "top_k"
        return getattr(self.verifier, "independent", False) and rule in ("argmax", "top_k")

    def _streamed(
        self, prompt: Prompt, count: int, seed: int, draw: Draw, text: TextEmbedding
    ) -> tuple[Score, Selection, States]:
        """Scores, picks, and the states of the picks, from micro-batches of candidates one after the other."""
        rule = self._first_rule(count)
        best = Best(rule.k, self.tie, self.stop)
        which, ended = self._next(0, count), False
        noise = draw(which)
        while which and not ended:
            features, states = self._made(prompt, which, lambda _, noise=noise: noise, text)
            following = self._next(which[-1] + 1, count)
            noise = draw(following) if following else None  # while the device is busy with these
            with self.times.stage("score", len(which)):
                score = ask(self.verifier, prompt, features)
                require_finite(prompt, score, which[0])
                ended = best.add(score, states)
            which = following
            del features, states
        score = best.score
        return score, choose(prompt, score, rule, self.tie, candidate_seed(seed, prompt.id, -1)), best.states

    def _next(self, first: int, count: int) -> list[int]:
        """The candidates from `first` on that stream through together."""
        sizes = (self.generator.micro_batch, self.verifier.micro_batch)
        return list(range(first, min(count, first + (count if None in sizes else max(sizes)))))

    def _at_once(
        self, prompt: Prompt, count: int, seed: int, draw: Draw, text: TextEmbedding
    ) -> tuple[Score | None, Selection, States]:
        """The same with the states of all candidates, for a verifier that compares them or where all are shown."""
        features, states = self._made(prompt, list(range(count)), draw, text)
        score, chosen = self._choose(prompt, features, count, seed)
        return score, chosen, states if callable(states) else lambda wanted: rows(states, wanted)

    def _made(self, prompt: Prompt, which: list[int], draw: Draw, text: TextEmbedding) -> tuple[Any, Any]:
        """(what the verifier reads of some candidates, their states: what their pictures are made from)."""
        match self.verifier.reads if self.verifier else "nothing":
            case "hidden":
                draws = draw(which)
                with self.times.stage("prefix", len(which)):
                    return stopped_at(self.generator, draws, text, blocks_of(self.verifier))
            case "latent":
                latents = self._generate(draw(which), text)
                return latents, latents
            case "image":
                pictures = list(self._decode(prompt, which, self._generate(draw(which), text)).values())
                return pictures, pictures
            case "nothing":
                return len(which), draw
            case unknown:
                assert_never(unknown)

    def _pictures(self, prompt: Prompt, which: list[int], states: Any, text: TextEmbedding) -> dict[int, Image]:
        """Pictures by candidate from their states."""
        match self.verifier.reads if self.verifier else "nothing":
            case "hidden":
                states = self._finish(states)
            case "image":
                return dict(zip(which, states, strict=True))
            case "nothing":
                states = self._generate(states, text)
        return self._decode(prompt, which, states)

    def _first_rule(self, count: int) -> Rule:
        """How the verifier's scores choose: the picks, or those that a cascade's second verifier is shown."""
        return self.rule if self.reranker is None else Rule("top_k", min(self.keep, count))

    def _choose(self, prompt: Prompt, features: Any, count: int, seed: int) -> tuple[Score | None, Selection]:
        """Scores of the candidates and the picks, or those that the first verifier of a cascade keeps."""
        if self.verifier is None:
            return None, Selection(0)
        with self.times.stage("score", count):
            return score_and_choose(
                self.verifier, prompt, features, self._first_rule(count), self.tie, candidate_seed(seed, prompt.id, -1)
            )

    def _rerank(
        self, prompt: Prompt, kept: Selection, decoded: Mapping[int, Image], seed: int
    ) -> tuple[dict[int, float], Selection]:
        """The second verifier's scores of the kept candidates, and its picks."""
        with self.times.stage("rerank", len(kept.picks)):
            pictures = [decoded[index] for index in kept.picks]
            score, chosen = score_and_choose(
                self.reranker, prompt, pictures, self.rule, self.tie, candidate_seed(seed, prompt.id, -1)
            )
        winner, *others = (kept.picks[place] for place in chosen.picks)
        return dict(zip(kept.picks, score.score.tolist(), strict=True)), Selection(winner, chosen.tied, tuple(others))

    def _finish(self, prefix: Prefix) -> torch.Tensor:
        with self.times.stage("finish", len(prefix)):
            return self.generator.finish(prefix)

    def _generate(self, draws: torch.Tensor, text: TextEmbedding) -> torch.Tensor:
        with self.times.stage("generate", len(draws)):
            return self.generator.generate(draws, text)

    def _decode(self, prompt: Prompt, which: list[int], latents: torch.Tensor) -> dict[int, Image]:
        """Pictures by candidate. Raises RunError, naming the prompt, where a number of latents or pictures is not
        finite: what is decoded of it is a black or grey picture like any other."""
        name = f"prompt {prompt.id} ({prompt.text!r})"
        with self.times.stage("decode", len(latents)):
            finite = latents.isfinite().flatten(1).all(1)  # read once the decoder is at work: a GPU does not wait
            try:
                pictures, problem = self.generator.decode(latents), ""
            except FloatingPointError as error:
                pictures, problem = [], str(error)
            if not finite.all():
                problem = f"candidate {which[finite.tolist().index(False)]} has latents that are not finite"
            if problem:
                raise RunError(f"{name}: {problem}; {DAMAGED}")
            return dict(zip(which, pictures, strict=True))
