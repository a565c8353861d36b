"""A page to play with: type a prompt, choose a verifier and N, watch the winner come in before its rivals do."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vhs.best_of_n import BestOfN, Result
from vhs.config.run import RunConfig
from vhs.errors import ConfigError, VHSError
from vhs.resolve import resolve_models
from vhs.stages import StageTimes
from vhs.verifiers.registry import load_registry

if TYPE_CHECKING:
    import gradio

MOST = 32
"""The largest N that the page offers, unless the configuration has a larger one."""
SMALL_VOCABULARY = 5000
"""A tokenizer with fewer entries knows whole words; a larger one spells out what it has no entry for."""


@dataclass(frozen=True)
class Moment:
    """What is known so far: the winner and all scores first (as in prod), every candidate's picture later.

    `seconds` and `stages` are those to the winner.
    """

    result: Result
    seconds: float
    stages: dict[str, dict[str, float | int]]


class Session:
    """One generator, and the verifiers that fit it, each loaded when it is first chosen."""

    def __init__(self, config: RunConfig) -> None:
        """Loads the configuration's models. Raises a VHSError."""
        self.config = config.changed(generation_mode="prod")
        models = resolve_models(self.config)
        self.generator = models.load_generator()
        self.chosen = config.verifier_label
        self.loaded = {self.chosen: models.load_verifier()}

    @property
    def verifiers(self) -> list[str]:
        """The configuration's own verifier and those of the registry whose files are here."""
        return [self.chosen, *(name for name in load_registry(self.config.registry) if self._usable(name))]

    def _usable(self, name: str) -> bool:
        try:
            models = resolve_models(self._with(name), fetch="nothing")
        except VHSError:
            return False
        return name != self.chosen and all(source.path for source in models.sources)

    def _with(self, name: str) -> RunConfig:
        return self.config.changed(
            latent_verifier=True, latent_verifier_name=name, latent_verifier_path=None, vision_tower=None
        )

    def moments(self, prompt: str, verifier: str, num_samples: int, seed: int) -> Iterator[Moment]:
        """The winner, then all candidates. Raises a VHSError."""
        if verifier not in self.loaded:
            self.loaded[verifier] = resolve_models(self._with(verifier)).load_verifier()
        times = StageTimes()
        best = BestOfN.of(self.config, self.generator, self.loaded[verifier], times=times)
        start = time.perf_counter()
        result = best(prompt, num_samples=num_samples, seed=seed)
        spent, stages = time.perf_counter() - start, times.as_dict()
        yield Moment(result, spent, stages)
        if len(result.images) < num_samples:
            _ = result.candidates
            yield Moment(result, spent, stages)

    def unknown_words(self, prompt: str) -> list[str]:
        """Words of the prompt that the generator's tokenizer has no entry for, as far as it is one of whole words."""
        tokenizer = getattr(getattr(self.generator, "pipeline", None), "tokenizer", None)
        if tokenizer is None or len(tokenizer) > SMALL_VOCABULARY:
            return []
        words = dict.fromkeys(re.findall(r"[^\W\d_]+", prompt.lower()))
        return [word for word in words if len(tokenizer.tokenize(f"a {word}")) > len(tokenizer.tokenize("a")) + 1]


def require_gradio() -> None:
    """Raises ConfigError where gradio is not installed."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported
    try:
        import gradio  # noqa: F401
    except ImportError:
        raise ConfigError(
            "demo: gradio is not installed; it wants an environment of its own: see requirements-demo.txt"
        ) from None


def page(session: Session) -> gradio.Blocks:
    """The page of a session. Raises ConfigError where gradio is not installed."""
    require_gradio()
    import gradio

    names = session.verifiers
    with gradio.Blocks(title=f"VHS: best of N with {session.config.name}", analytics_enabled=False) as blocks:
        gradio.Markdown(f"## Best of N\ngenerator `{session.config.ckpt}`, configuration `{session.config.name}`")
        with gradio.Row():
            with gradio.Column():
                prompt = gradio.Textbox(label="Prompt", value="a photo of a red circle and a blue star", autofocus=True)
                verifier = gradio.Dropdown(names, value=names[0], label="Verifier")
                largest = max(MOST, session.config.num_samples)
                count = gradio.Slider(1, largest, value=session.config.num_samples, step=1, label="N, candidates")
                seed = gradio.Number(session.config.seed, precision=0, minimum=0, label="Seed")
                button = gradio.Button("Generate", variant="primary")
                status = gradio.Markdown(elem_id="status")
            with gradio.Column():
                winner = gradio.Image(label="Winner", elem_id="winner", format="png", height=320, buttons=[])
                timings = gradio.Dataframe(
                    headers=["stage", "ms", "items"], label="Timings to the winner", elem_id="timings"
                )
        candidates = gradio.Gallery(
            label="Candidates, by score", columns=8, height="auto", elem_id="candidates", format="png"
        )
        inputs, outputs = [prompt, verifier, count, seed], [status, winner, timings, candidates]
        gradio.on([button.click, prompt.submit], answers(session), inputs, outputs, concurrency_limit=1)
    return blocks


def answers(session: Session) -> Any:
    """What the page calls: yields its outputs (status, winner, timings, candidates) as they come in."""

    def answer(prompt: str, verifier: str, count: float, seed: float | None) -> Iterator[tuple[Any, ...]]:
        if not prompt.strip():
            yield "Type a prompt first.", None, [], []
            return
        unknown = session.unknown_words(prompt)
        warning = f"**Unknown to this generator: {', '.join(unknown)}.** It will guess.\n\n" if unknown else ""
        yield f"{warning}Scoring {int(count)} candidates ...", None, [], []
        try:
            for moment in session.moments(prompt.strip(), verifier, int(count), int(seed or 0)):
                yield f"{warning}{_sentence(moment)}", moment.result.image, _rows(moment), _gallery(moment.result)
        except VHSError as error:
            yield f"**{error}**", None, [], []

    return answer


def _sentence(moment: Moment) -> str:
    result = moment.result
    score = f", score {result.scores[result.best_index]:+.3f}" if result.scores else ""
    won = f"Candidate {result.best_index} of {result.num_samples} wins{score}, after {1000 * moment.seconds:.0f} ms."
    return won if len(result.images) == result.num_samples else f"{won} Its rivals are being finished ..."


def _rows(moment: Moment) -> list[list[Any]]:
    return [[name, round(1000 * stage["seconds"], 1), stage["items"]] for name, stage in moment.stages.items()]


def _gallery(result: Result) -> list[tuple[Any, str]]:
    """Decoded candidates, best first, each with its score."""
    shown = result.top(result.num_samples) if len(result.images) == result.num_samples else []
    return [
        (image, f"{index}" if score is None else f"{score:+.3f}{' · winner' if index == result.best_index else ''}")
        for index, score, image in shown
    ]
