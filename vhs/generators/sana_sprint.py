"""SANA-Sprint behind the generator's contract: diffusers' models, this project's order of work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vhs.batching import MicroBatched
from vhs.checkpoints.source import find_model
from vhs.compiled import Graphed, compile_layers
from vhs.generators import scm
from vhs.generators import text as gemma
from vhs.generators.architecture import read_generator_info
from vhs.generators.base import GeneratorInfo
from vhs.generators.capture import ResumedAfter, StoppedAfter
from vhs.generators.files import WEIGHTS
from vhs.generators.grouped import multiply_groups
from vhs.generators.halves import Call, Halves
from vhs.generators.loading import load_pipeline
from vhs.generators.lora import PATTERNS as LORA_FILES
from vhs.generators.lora import add_lora, lora_file
from vhs.generators.settings import GeneratorSettings
from vhs.generators.shared_rows import share_text
from vhs.pictures import from_pixels
from vhs.records import Prefix, TextEmbedding
from vhs.seeding import seeded_noise

if TYPE_CHECKING:
    from diffusers import SanaSprintPipeline
    from PIL.Image import Image

DECODED_PIXELS = 4 * 1024 * 1024
"""Pixels that are decoded at once at most: the decoder needs far more memory than the rest."""


class SanaSprint(MicroBatched):
    """One-step (to eight-step) SANA-Sprint, stopped at a block and finished from there.

    `text` may also be one for each candidate (`TextEmbedding.of_each`): candidates of several prompts in one pass.
    `finish(prefix(noise, text), ...)` and `generate(noise, text)` equal `SanaSprintPipeline(...)` with
    `output_type="latent"` bit for bit in float32 on one device at equal batch sizes.
    """

    mixes_prompts = True

    def __init__(self, pipeline: SanaSprintPipeline, info: GeneratorInfo, settings: GeneratorSettings) -> None:
        self.pipeline = pipeline
        self.transformer = pipeline.transformer
        self.info = info
        self.settings = settings
        self.device = torch.device(settings.device)
        self._sigma = pipeline.scheduler.config.sigma_data
        self._times = scm.timesteps(
            settings.num_inference_steps,
            settings.intermediate_timesteps or gemma.pipeline_default("intermediate_timesteps"),
            self.device,
        )
        guidance = settings.guidance_scale
        self._guidance = gemma.pipeline_default("guidance_scale") if guidance is None else guidance
        super().__init__(settings.micro_batch)
        self._halves = Halves(self.transformer) if settings.compile else None
        self._pixels: Callable[[torch.Tensor], torch.Tensor] = self._decoded
        if settings.compile and settings.offload == "none":  # what moves between devices is nothing for a graph
            multiply_groups(pipeline.vae.decoder)
            compile_layers([pipeline.vae.decoder])
            self._pixels = Graphed(self._decoded)
            gemma.compile_encoder(pipeline.text_encoder)
        share_text(self.transformer)
        self._place()

    @classmethod
    def from_pretrained(
        cls, folder: Path | str, sana_lora_weights: Path | str | None = None, **settings: Any
    ) -> SanaSprint:
        """Loads a Hub id or a `SanaSprintPipeline.save_pretrained` folder; keywords are those of `GeneratorSettings`.

        Raises ConfigError and CheckpointError, what can be known from JSON files before any weight is read.
        """
        adapter = None
        if sana_lora_weights is not None:
            adapter = lora_file(find_model("sana_lora_weights", str(sana_lora_weights), LORA_FILES).require())
        return cls.load(find_model("ckpt", str(folder), WEIGHTS).require(), GeneratorSettings(**settings), adapter)

    @classmethod
    def load(cls, folder: Path, settings: GeneratorSettings, adapter: Path | None = None) -> SanaSprint:
        """The same from a folder on disk; `adapter` is the file of a LoRA."""
        info = read_generator_info(folder, settings)
        pipeline = load_pipeline(folder, settings.dtype, settings.text_softcapping)
        if adapter:
            add_lora(pipeline, adapter)
        return cls(pipeline, info, settings)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> list[TextEmbedding]:
        """One embedding (1, T, D) per prompt, on the device; one forward of the text encoder per prompt."""
        with self._resident(self.pipeline.text_encoder):
            return [gemma.encode(self.pipeline, prompt, self.settings, self.settings.device) for prompt in prompts]

    def noise(self, seeds: Sequence[int]) -> torch.Tensor:
        """Unit normal noise of N candidates, float32 on the CPU: (N, C, h, w), or (N, steps, C, h, w) for more."""
        return seeded_noise(seeds, self.info.steps, self.info.latent_shape)

    def prefix(self, noise: torch.Tensor, text: TextEmbedding, block: int = 7) -> Prefix:
        """N candidates up to and including `block` of step `info.step`; steps before it run whole.

        `noise` is what `noise()` returns. Raises ConfigError for a block that does not exist.
        """
        return self.hidden_states(noise, text, [block])[1]

    @torch.no_grad()
    def hidden_states(
        self, noise: torch.Tensor, text: TextEmbedding, blocks: Sequence[int]
    ) -> tuple[dict[int, torch.Tensor], Prefix]:
        """Hidden states (N, tokens, width) of several blocks from one pass, and the prefix that ends at the last."""
        blocks = sorted(set(blocks))
        for block in blocks:
            self.info.require_block(block)
        draws, step = self._draws(noise), self.info.step - 1
        latents: list[torch.Tensor] = []
        outputs: list[list[torch.Tensor]] = []
        for piece in self._candidates.over(len(draws)):
            with self._candidates:
                part = text.rows(piece)
                entering = self._run(draws[piece], part, until=step)
                outputs.append(self._stopped(entering, part, step, blocks))
                latents.append(entering)
        states = {block: torch.cat(parts) for block, *parts in zip(blocks, *outputs, strict=True)}
        rest = draws[:, step + 1 :].to(self.device)
        later = rest if rest.shape[1] else None
        return states, Prefix(states[blocks[-1]], torch.cat(latents), text, blocks[-1], later)

    @torch.no_grad()
    def finish(self, prefix: Prefix) -> torch.Tensor:
        """Final latents (N, C, h, w) float32 on the device: the blocks after the captured one, then the steps left."""
        step = self.info.step - 1
        finished = []
        for piece in self._candidates.over(len(prefix)):
            with self._candidates:
                text = prefix.text.rows(piece)
                data = self._resumed(prefix, piece, text, step)
                left = None if prefix.noise is None else prefix.noise[piece]
                finished.append(self._remaining(data, left, text, step + 1) / self._sigma)
        return torch.cat(finished)

    @torch.no_grad()
    def generate(self, noise: torch.Tensor, text: TextEmbedding) -> torch.Tensor:
        """Final latents (N, C, h, w) float32 on the device, in one go."""
        draws = self._draws(noise)
        finished = []
        for piece in self._candidates.over(len(draws)):
            with self._candidates:
                part = text.rows(piece)
                data = self._denoise(self._run(draws[piece], part, until=0), part, 0)
                finished.append(self._remaining(data, draws[piece, 1:].to(self.device), part, 1) / self._sigma)
        return torch.cat(finished)

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> list[Image]:
        """RGB pictures, `info.image_size`, of final latents (N, C, h, w). Raises FloatingPointError where a pixel is
        not finite."""
        height, width = self.info.image_size
        pictures: list[Image] = []
        with self._resident(self.pipeline.vae):
            for piece in self._pictures.over(len(latents), most=max(1, DECODED_PIXELS // (height * width))):
                with self._pictures:
                    pictures += self._decode(latents[piece])
        return pictures

    def _decode(self, latents: torch.Tensor) -> list[Image]:
        vae = self.pipeline.vae
        pixels = self._pixels(latents.to(self.device, vae.dtype) / vae.config.scaling_factor)
        self._require_finite(pixels)
        if self.settings.use_resolution_binning:
            height, width = self.info.image_size
            pixels = self.pipeline.image_processor.resize_and_crop_tensor(pixels, width, height)
        return from_pixels(pixels)

    def _decoded(self, scaled: torch.Tensor) -> torch.Tensor:
        """The autoencoder's pixels (N, 3, H, W) of latents in its own scale."""
        return self.pipeline.vae.decode(scaled, return_dict=False)[0]

    @staticmethod
    def _require_finite(pixels: torch.Tensor) -> None:
        """Postprocessing would make a black pixel of one that is not a number."""
        if not pixels.isfinite().all():
            raise FloatingPointError("decoded pictures are not finite")

    def _draws(self, noise: torch.Tensor) -> torch.Tensor:
        """(N, steps, C, h, w), whatever the number of steps."""
        draws = noise[:, None] if noise.ndim == 4 else noise
        expected = (self.info.steps, *self.info.latent_shape)
        assert draws.shape[1:] == expected, f"noise of {tuple(noise.shape)} for steps and latents of {expected}"
        return draws

    def _run(self, draws: torch.Tensor, text: TextEmbedding, until: int) -> torch.Tensor:
        """The latents (N, C, h, w) that enter step `until` (from 0); the steps before it run whole."""
        draws = draws.to(self.device, torch.float32)
        latents = draws[:, 0] * self._sigma
        for step in range(until):
            data = self._denoise(latents, text, step)
            latents = scm.renoised(data, draws[:, step + 1], self._times[step + 1], self._sigma)
        return latents

    def _remaining(
        self, data: torch.Tensor, noise: torch.Tensor | None, text: TextEmbedding, first: int
    ) -> torch.Tensor:
        """The data (N, C, h, w) after steps `first` to the last; `noise` (N, k, C, h, w) is theirs."""
        for index, step in enumerate(range(first, self.info.steps)):
            latents = scm.renoised(data, noise[:, index], self._times[step], self._sigma)
            data = self._denoise(latents, text, step)
        return data

    def _stopped(
        self, latents: torch.Tensor, text: TextEmbedding, step: int, blocks: Sequence[int]
    ) -> list[torch.Tensor]:
        """The outputs (N, tokens, width) of `blocks` in `step`; the pass ends at the last."""
        if self._halves is not None:
            return self._halves.before(self._call(latents, text, step), blocks)
        with StoppedAfter([self.transformer.transformer_blocks[block] for block in blocks]) as outputs:
            self._velocity(latents, text, step)
        return outputs

    def _resumed(self, prefix: Prefix, piece: slice, text: TextEmbedding, step: int) -> torch.Tensor:
        """The data (N, C, h, w) of the captured step, from the captured state on."""
        latents = prefix.latents[piece]
        if self._halves is not None:
            call = self._call(latents, text, step)
            return self._data(latents, self._halves.after(prefix.hidden[piece], call, prefix.block), step)
        with ResumedAfter(self.transformer, prefix.block, prefix.hidden[piece]):
            return self._denoise(latents, text, step)

    def _denoise(self, latents: torch.Tensor, text: TextEmbedding, step: int) -> torch.Tensor:
        """The data (N, C, h, w) float32 that the network sees in `latents` at the start of `step`."""
        return self._data(latents, self._velocity(latents, text, step), step)

    def _data(self, latents: torch.Tensor, output: torch.Tensor, step: int) -> torch.Tensor:
        """The data in `latents` at the start of `step`, by the network's `output` for them."""
        seen, s = self._seen(latents, step)
        velocity = scm.trig_velocity(output, seen, s, self._sigma)
        return scm.denoised(latents, velocity, self._times[step])

    def _velocity(self, latents: torch.Tensor, text: TextEmbedding, step: int) -> torch.Tensor:
        """One forward of the transformer, (N, C, h, w) in its own dtype."""
        call = self._call(latents, text, step)
        if self._halves is not None:
            last = self.info.blocks - 1
            return self._halves.after(*self._halves.before(call, [last]), call, last)
        return self.transformer(
            call.seen,
            encoder_hidden_states=call.text,
            encoder_attention_mask=call.mask,
            guidance=call.guidance,
            timestep=call.time,
            return_dict=False,
        )[0]

    def _call(self, latents: torch.Tensor, text: TextEmbedding, step: int) -> Call:
        """The transformer's arguments for `latents` at the start of `step`; a shared text is one row, repeated."""
        count, dtype = len(latents), self.transformer.dtype
        seen, s = self._seen(latents, step)
        guidance = torch.full((count,), self._guidance, device=self.device).to(dtype)
        return Call(
            seen,
            text.embeds.to(dtype).expand(count, -1, -1),
            text.mask.expand(count, -1),
            guidance * self.transformer.config.guidance_embeds_scale,
            s.expand(count),
        )

    def _seen(self, latents: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The transformer's input (N, C, h, w) and flow time (scalar), in its dtype.

        Rounding both here is what diffusers 0.33 did, with which the published results were made; in float32 it is
        what every version does.
        """
        dtype = self.transformer.dtype
        s = scm.flow_time(self._times[step].to(dtype))
        return scm.flow_input(latents, s, self._sigma).to(dtype), s

    def _place(self) -> None:
        """Moves the models to the device; with `offload: model` only the transformer stays there."""
        offloaded = self.settings.offload == "model"
        for model in (self.pipeline.text_encoder, self.pipeline.vae):
            model.to("cpu" if offloaded else self.device)
        self.transformer.to(self.device)

    @contextmanager
    def _resident(self, model: torch.nn.Module) -> Iterator[None]:
        """Has `model` on the device for as long as the context lasts; without offloading it is there for good."""
        if self.settings.offload != "model":  # moving what need not move looks at every weight, for milliseconds
            yield
            return
        model.to(self.device)
        try:
            yield
        finally:
            model.to("cpu")
