"""Any diffusers text-to-image pipeline behind the generator's contract, by the pipeline's own `__call__`.

See `vhs.generators.replay` for how a call is stopped and taken up again, `vhs.generators.families` for what differs.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vhs.batching import MicroBatched
from vhs.checkpoints.source import find_model
from vhs.errors import CheckpointError, ConfigError, first_line
from vhs.generators import candidates, replay
from vhs.generators.base import GeneratorInfo
from vhs.generators.call_arguments import PipelineSettings, build_scheduler, call_arguments
from vhs.generators.description import Description, describe
from vhs.generators.families import FAMILIES, HERE, image_tokens
from vhs.generators.lora import PATTERNS as LORA_FILES
from vhs.generators.lora import add_lora, lora_file
from vhs.generators.pipeline_loading import NETWORK_FILES, REST, WEIGHTS, load_pipeline
from vhs.records import Prefix, TextEmbedding
from vhs.seeding import seeded_noise

if TYPE_CHECKING:
    from PIL.Image import Image

DECODED_PIXELS = 4 * 1024 * 1024
"""Pixels that are decoded at once at most: the decoder needs far more memory than the rest."""


@dataclass(frozen=True)
class PipelineText(TextEmbedding):
    """One encoded prompt: what the pipeline's `encode_prompt` returned, call by call.

    `embeds` is the first tensor among it; `mask` is None: masks are among `calls`. `precision` is that of the latents
    in the pipeline's loop.
    """

    prompt: str
    calls: replay.Calls
    precision: torch.dtype = torch.float32


@dataclass(frozen=True)
class PipelinePrefix(Prefix):
    """N candidates stopped after a block: `state` is all that the pipeline needs to go on.

    `hidden` are the image's tokens, with guidance of the conditional half. `latents` is the noise the candidates
    started from, `noise` what was given for later steps. `block` is a path of modules.
    """

    state: replay.State | None = None

    @property
    def given(self) -> torch.Tensor:
        """The noise that `prefix` was given, (N, k, C, h, w)."""
        later = [] if self.noise is None else list(self.noise.unbind(1))
        return torch.stack([self.latents, *later], 1)

    def __getitem__(self, indices: list[int] | torch.Tensor) -> PipelinePrefix:
        """The candidates at `indices`, in that order."""
        noise = None if self.noise is None else self.noise[indices]
        return PipelinePrefix(
            self.hidden[indices], self.latents[indices], self.text, self.block, noise, self.state[indices]
        )

    def joined(self, others: Sequence[PipelinePrefix]) -> PipelinePrefix:
        """This and other candidates of the same prompt, stopped at the same block, as one."""
        whole, state = super().joined(others), replay.State.cat([self.state, *(other.state for other in others)])
        return PipelinePrefix(whole.hidden, whole.latents, whole.text, whole.block, whole.noise, state)


class DiffusersPipeline(MicroBatched):
    """A text-to-image pipeline stopped at a block of any denoising step, and finished from there.

    `finish(prefix(...))` and `generate(...)` are the pipeline's own latents, bit for bit in float32 on one device at
    equal batch sizes, before the last step too: a candidate goes on from its own state.
    """

    def __init__(self, pipeline: Any, description: Description, settings: PipelineSettings) -> None:
        self.pipeline = pipeline
        self.description = description
        self.settings = settings
        self.arguments = call_arguments(description, settings)
        self.info = pipeline_info(description, settings)
        self.device = torch.device(settings.device)
        super().__init__(settings.micro_batch)
        self._blank: PipelineText | None = None
        self._proved: set[str] = set(description.paths() if description.name in FAMILIES else ())
        pipeline.scheduler = build_scheduler(description, settings)
        self._ending = _ending(pipeline, description.family.decoder)
        if settings.offload == "model":
            pipeline.enable_model_cpu_offload(device=self.device)
        elif self.device.type != "meta":
            pipeline.to(self.device)

    @classmethod
    def from_pretrained(
        cls,
        folder: Path | str,
        network_ckpt: Path | str | None = None,
        sana_lora_weights: Path | str | None = None,
        **settings: Any,
    ) -> DiffusersPipeline:
        """Loads a Hub id or a folder in diffusers' layout; keywords are those of `PipelineSettings`.

        `network_ckpt` is another such place, whose network and scheduler are taken. Raises ConfigError and
        CheckpointError, what can be known from JSON files before any weight is read.
        """
        adapter = network = None
        if sana_lora_weights is not None:
            adapter = lora_file(find_model("sana_lora_weights", str(sana_lora_weights), LORA_FILES).require())
        if network_ckpt is not None:
            network = find_model("network_ckpt", str(network_ckpt), NETWORK_FILES).require()
        place = find_model("ckpt", str(folder), REST if network else WEIGHTS).require()
        return cls.load(describe(place, network), PipelineSettings(**settings), adapter)

    @classmethod
    def load(
        cls, description: Description, settings: PipelineSettings, adapter: Path | None = None
    ) -> DiffusersPipeline:
        """The same from folders on disk; `adapter` is the file of a LoRA."""
        call_arguments(description, settings)
        build_scheduler(description, settings)
        pipeline_info(description, settings)
        pipeline = load_pipeline(description, settings.dtype, settings.text_softcapping)
        if adapter:
            add_lora(pipeline, adapter)
        return cls(pipeline, description, settings)

    @property
    def network(self) -> torch.nn.Module:
        """The network that denoises."""
        return replay.network_of(self.pipeline)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> list[PipelineText]:
        """What the pipeline's own call makes of each prompt, negative prompt included; one call per prompt.

        Raises ConfigError for arguments that the pipeline refuses.
        """
        return [self._encode(self.pipeline, prompt) for prompt in prompts]

    def _encode(self, pipeline: Any, prompt: str) -> PipelineText:
        start = torch.zeros(1, *self.info.latent_shape, device=self.device)
        try:
            calls, precision = replay.encoded(pipeline, self.call(pipeline, start, [prompt]))
        except (ValueError, TypeError, NotImplementedError) as error:
            raise ConfigError(
                f"generator: {self.description.name} refuses the run's keys: {first_line(error)}"
            ) from error
        return PipelineText(_first_tensor(calls), None, prompt, calls, precision)

    def noise(self, seeds: Sequence[int]) -> torch.Tensor:
        """Unit normal noise of N candidates, float32 on the CPU: (N, C, h, w).

        A scheduler that adds noise on the way takes it from a stream that follows from a candidate's own start.
        Families with `fresh_noise` have (N, steps, C, h, w), as `Sana-Sprint` has it.
        """
        steps = self.info.steps if self.description.family.fresh_noise else 1
        return seeded_noise(seeds, steps, self.info.latent_shape)

    @torch.no_grad()
    def prefix(self, noise: torch.Tensor, text: PipelineText, block: int | str = 7) -> PipelinePrefix:
        """N candidates up to and including `block` of step `info.step`; steps before it run whole.

        `block` is a path of modules, or its number in the family's own list; the key `block` wins. `noise` is what
        `noise()` returns. Raises ConfigError for a block that does not exist.
        """
        return self.hidden_states(noise, text, [self.settings.block or block])[1]

    @torch.no_grad()
    def hidden_states(
        self, noise: torch.Tensor, text: PipelineText, blocks: Sequence[int | str]
    ) -> tuple[dict[int | str, torch.Tensor], PipelinePrefix]:
        """Hidden states (N, tokens, width) of several blocks from one pass, and the prefix that ends at the last."""
        order = self.description.paths().index
        *earlier, last = sorted(blocks, key=lambda block: order(self.description.path(block)))
        path = self.description.path(last)
        stop = self._stop(path, earlier)
        stopped = []
        for piece in self._candidates.over(len(noise)):
            with self._answered(noise[piece], text) as (call, draw):
                stopped.append(replay.stopped(self.pipeline, call, stop, piece.stop - piece.start, draw))
        state = replay.State.cat(stopped)
        given = noise[:, None] if noise.ndim == 4 else noise
        later = given[:, 1:] if given.shape[1] > 1 else None
        kept = replace(state, observed={})
        prefix = PipelinePrefix(self._hidden(path, state.output), given[:, 0], text, path, later, kept)
        states = {name: self._hidden(self.description.path(name), output) for name, output in state.observed.items()}
        return {**states, last: prefix.hidden}, prefix

    @torch.no_grad()
    def finish(self, prefix: PipelinePrefix) -> torch.Tensor:
        """Final latents (N, C, h, w) float32 on the device: the blocks after the captured one, then the steps left.

        For a family that is not named, the first candidate is made whole once more and compared. Raises
        CheckpointError where its blocks read more than the block before them returned.
        """
        if prefix.block not in self._proved:
            self._proved.add(prefix.block)
            self._prove(prefix[[0]])
        stop = self._stop(prefix.block)
        finished = []
        for piece in self._candidates.over(len(prefix)):
            part = prefix[piece]
            with self._answered(part.given, prefix.text) as (call, draw):
                finished.append(self._unpacked(replay.resumed(self.pipeline, call, stop, part.state, draw)))
        return torch.cat(finished)

    def _prove(self, prefix: PipelinePrefix) -> None:
        resumed, whole = self.finish(prefix), self.generate(prefix.given, prefix.text)
        apart = ((resumed - whole).abs().max() / whole.std()).item()
        if not apart < (1e-4 if self.info.dtype == "float32" else 1e-2):
            raise CheckpointError(
                f"block: going on from {prefix.block} does not give {self.description.name}'s own latents (they differ "
                f"by {apart:.2g} of their standard deviation): later blocks read other blocks' outputs too; name their "
                f"list in read_again of the pipeline's family in {HERE}"
            )

    @torch.no_grad()
    def generate(self, noise: torch.Tensor, text: PipelineText) -> torch.Tensor:
        """Final latents (N, C, h, w) float32 on the device, in one go."""
        finished = []
        for piece in self._candidates.over(len(noise)):
            with self._answered(noise[piece], text) as (call, draw):
                finished.append(self._unpacked(replay.run(self.pipeline, call, draw)))
        return torch.cat(finished)

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> list[Image]:
        """RGB pictures, `info.image_size`, of final latents (N, C, h, w): the end of the pipeline's own call."""
        height, width = self.info.image_size
        if self._blank is None:
            with replay.without_steps(self._ending):
                self._blank = self._encode(self._ending, "")
        pictures: list[Image] = []
        for piece in self._pictures.over(len(latents), most=max(1, DECODED_PIXELS // (height * width))):
            with self._pictures:
                pictures += self._decode(latents[piece])
        return pictures

    def _decode(self, latents: torch.Tensor) -> list[Image]:
        start = latents.to(self.device, self.pipeline.vae.dtype)
        call = self.call(self._ending, start, [""] * len(latents), output_type="pil")
        with (
            replay.without_steps(self._ending),
            replay.answering(self._ending, self._blank.calls, len(latents)),
            np.errstate(invalid="raise"),  # a pixel that is not a number becomes a byte here: FloatingPointError
        ):
            return call()

    @contextmanager
    def _answered(
        self, noise: torch.Tensor, text: PipelineText
    ) -> Iterator[tuple[Callable[[], Any], Callable[[], torch.Tensor]]]:
        """(the pipeline's call from a micro-batch of `noise` to its latents, where a scheduler's fresh noise comes
        from), while the pipeline's questions to its text encoders are answered from `text`."""
        with self._candidates:
            start, draw = self._start(noise, text)
            with replay.answering(self.pipeline, text.calls, len(noise)):
                yield self.call(self.pipeline, start, [text.prompt] * len(noise)), draw

    def call(
        self, pipeline: Any, start: torch.Tensor, prompts: list[str], output_type: str = "latent"
    ) -> Callable[[], Any]:
        """A pipeline's call from latents (N, C, h, w), to be made later; returns its pictures or latents."""
        latents, known = self._packed(start), inspect.signature(type(pipeline).__call__).parameters
        arguments = {name: value for name, value in self.arguments.items() if name in known}
        return lambda: pipeline(prompts, latents=latents, output_type=output_type, **arguments)[0]

    def _start(self, noise: torch.Tensor, text: PipelineText) -> tuple[torch.Tensor, Callable[[], torch.Tensor]]:
        """Start latents (N, C, h, w), and where a scheduler's fresh noise comes from.

        The noise given for later steps is used up first; then every candidate has a stream of its own, seeded by its
        start.
        """
        given = noise[:, None] if noise.ndim == 4 else noise
        later = iter(given[:, 1:].unbind(1))
        generators: list[torch.Generator] = []

        def draw() -> torch.Tensor:
            ready = next(later, None)
            if ready is None:
                if not generators:
                    generators.extend(_stream(start) for start in given[:, 0])
                ready = torch.stack([torch.randn(self.info.latent_shape, generator=g) for g in generators])
            return self._packed(ready)

        return given[:, 0].to(self.device, text.precision), draw

    def _stop(self, path: str, earlier: Sequence[int | str] = ()) -> replay.Stop:
        lists, (name, index) = list(self.description.block_lists), self.description.block(path)
        run = lists[: lists.index(name) + 1]
        again = self.description.family.read_again
        block = self.network.get_submodule(path)
        read_again: list[torch.nn.Module] = []
        for one in run:
            if one in again:
                blocks = list(getattr(self.network, one))
                read_again += blocks[:index] if one == name else blocks
        observed = {key: self.network.get_submodule(self.description.path(key)) for key in earlier}
        return replay.Stop(
            self.info.step - 1, block, tuple((self.network, one) for one in run), tuple(read_again), observed
        )

    def _hidden(self, path: str, output: Any) -> torch.Tensor:
        """The image's tokens (N, tokens, width) in what a block returned, of the conditional half."""
        family = self.description.family
        conditional = candidates.of_kind(output, 0 if family.conditional_first else -1)
        size = self.description.hidden_size(path, self.info.latent_shape)
        return image_tokens(conditional, family, *size, path)

    def _packed(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents (N, C, h, w) as the pipeline's own loop has them."""
        if not self.description.packed:
            return latents
        return self.pipeline._pack_latents(latents, *latents.shape)

    def _unpacked(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents of the pipeline's own loop as (N, C, h, w) float32."""
        if self.description.packed:
            height, width = self.info.image_size
            latents = self.pipeline._unpack_latents(latents, height, width, self.pipeline.vae_scale_factor)
        return (latents.squeeze(2) if latents.ndim == 5 else latents).float()


def pipeline_info(description: Description, settings: PipelineSettings) -> GeneratorInfo:
    """Sizes of a pipeline under `settings`, from its JSON files. Raises ConfigError for settings that do not fit it."""
    latent = description.latent_shape(settings.image_height, settings.image_width)
    block = settings.block or 0
    tokens, width = description.hidden_size(block, latent)
    path = description.path(block)
    return GeneratorInfo(
        blocks=len(description.numbered),
        width=width,
        tokens=tokens,
        latent_shape=latent,
        image_size=(settings.image_height, settings.image_width),
        steps=settings.num_inference_steps,
        step=settings.step,
        device=settings.device,
        dtype=settings.dtype,
        pipeline=description.name,
        paths=description.numbered,
        block=description.number(path) if settings.block else None,
    )


def _ending(pipeline: Any, decoder: str | None) -> Any:
    """The pipeline whose call's end decodes: itself, or the class `decoder` with its components."""
    import diffusers

    if decoder is None:
        return pipeline
    ending = getattr(diffusers, decoder)(**pipeline.components)
    ending.set_progress_bar_config(disable=True)
    return ending


def _stream(start: torch.Tensor) -> torch.Generator:
    """A candidate's own stream of further noise: the same wherever and beside whomever it is made."""
    digest = hashlib.blake2b(start.contiguous().numpy().tobytes(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


def _first_tensor(calls: Any) -> torch.Tensor:
    while not isinstance(calls, torch.Tensor):
        calls = next(entry for entry in calls if entry is not None)
    return calls
