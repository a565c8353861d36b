"""Collecting: K variants of every prompt through the generator, their hidden states, latents and pictures to disk.

A sample's noise comes from (seed, prompt id, candidate) alone, so a set does not depend on shards, processes or where
a run was interrupted. Shards are written by a second thread while the generator goes on.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vhs.errors import RunError
from vhs.files import BYTES_PER_PIXEL
from vhs.pictures import encode
from vhs.processes import Process
from vhs.records import Prefix, Prompt
from vhs.training.data.features import SCALE, bytes_of, finite_rows, stored
from vhs.training.data.layout import Layout
from vhs.training.data.passes import Pair, groups, noise_of, text_of
from vhs.training.data.store import close_set, decide_set, missing_shards, open_set, write_shard
from vhs.training.data.tasks import CollectConfig

if TYPE_CHECKING:
    from PIL.Image import Image

    from vhs.generators.base import Generator, GeneratorInfo

GIB = 1024**3
SHARD_BYTES, MOST_PROMPTS = GIB // 2, 50
"""Of a shard's features, at most (but one prompt's are never divided); prompts in it, at most."""
Tower = Callable[[Sequence["Image"]], torch.Tensor]


@dataclass
class Report:
    """What a process collected, and where its time went (seconds)."""

    samples: int = 0
    total_s: float = 0.0
    generator_s: float = 0.0
    bytes_written: int = 0
    waiting_s: float = field(default=0.0)

    @property
    def generator_share(self) -> float:
        return self.generator_s / self.total_s if self.total_s else 0.0

    def line(self) -> str:
        rate = self.samples / self.total_s if self.total_s else 0.0
        return (
            f"{self.samples} samples in {self.total_s:.1f} s ({rate:.1f}/s), {self.bytes_written / GIB:.3f} GiB; "
            f"generator {100 * self.generator_share:.0f} % of the time, waiting for the disk {self.waiting_s:.1f} s"
        )


def plan(
    info: GeneratorInfo,
    prompts: int,
    config: CollectConfig,
    settings: Mapping[str, Any],
    clip_shape: Sequence[int] | None = None,
) -> Layout:
    """What the set will hold. `settings` are the generator's. Raises ConfigError for a block that does not exist."""
    features: dict[str, Sequence[int]] = {}
    for block in sorted(config.blocks):
        info.require_block(block, "blocks")
        features[f"hidden_{block}"] = (info.tokens, info.width)
    if config.latent:
        features["latent"] = tuple(info.latent_shape)
    if config.clip:
        assert clip_shape is not None, "the tower's output shape is needed"
        features["clip"] = tuple(clip_shape)
    if info.pipeline != Layout.PIPELINE:
        paths = {f"hidden_{block}": info.path(block) for block in sorted(config.blocks)}
        settings = {**settings, "pipeline": info.pipeline, "block_paths": paths}
    own = {"seed": config.seed, "clip": config.clip, "clip_layer": config.clip_layer if config.clip else None}
    return Layout(
        features,
        config.dtype,
        prompts,
        config.candidates,
        config.prompts_per_shard or _prompts_per_shard(features, config),
        config.pictures,
        {**settings, **own},
    )


def _prompts_per_shard(features: Mapping[str, Sequence[int]], config: CollectConfig) -> int:
    """As many prompts as SHARD_BYTES hold the features of: three shards are in memory at a time."""
    each = config.candidates * sum(bytes_of(tuple(shape), config.dtype) for shape in features.values())
    return max(1, min(MOST_PROMPTS, SHARD_BYTES // max(each, 1)))


def bytes_per_sample(layout: Layout, image_size: tuple[int, int]) -> int:
    """Exact for features, a rule of thumb for pictures."""
    picture = BYTES_PER_PIXEL.get(layout.pictures or "", 0.0) * prod(image_size)
    return sum(bytes_of(tuple(shape), layout.dtype) for shape in layout.features.values()) + int(picture)


def check_disk(
    folder: Path, layout: Layout, image_size: tuple[int, int], reserve_gib: float, replaces: bool = False
) -> str:
    """One line about the space that the rest of the set needs, or all of it where it `replaces` one. Raises RunError
    when the disk has less."""
    each = bytes_per_sample(layout, image_size)
    waiting = range(layout.shards) if replaces else missing_shards(folder, layout)
    samples = sum(len(layout.prompts_of(shard)) for shard in waiting) * layout.candidates
    place = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(place).free
    line = f"{samples} samples of {_size(each)} are {_size(samples * each)}; {_size(free)} free in {place}"
    if samples * each > free - reserve_gib * GIB:
        raise RunError(
            f"{folder}: {line}, of which {reserve_gib:g} GiB stay free (reserve_gib); "
            "keep fewer blocks, prompts or candidates, or another disk"
        )
    return line


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def collect(
    generator: Generator,
    prompts: Sequence[Prompt],
    config: CollectConfig,
    layout: Layout,
    *,
    process: Process = Process(),
    tower: Tower | None = None,
    progress: Callable[[int], None] = lambda samples: None,
) -> Report:
    """Makes this process's part of the shards that are not there yet, and returns what it took.

    `tower` maps pictures to features (N, tokens, width) where `config.clip` asks for them; `progress` is told the
    samples of each finished prompt. Raises RunError for a feature that is not finite, naming the sample.
    """
    folder = config.folder
    report, started = Report(), time.perf_counter()
    opening = decide_set(folder, layout, prompts, config.overwrite)
    process.wait()
    if process.first:
        open_set(opening, folder, layout, prompts)
    process.wait()
    todo = set(missing_shards(folder, layout))
    process.wait()
    pending: list[Future[Path]] = []
    with ThreadPoolExecutor(max_workers=1) as writer, ThreadPoolExecutor(max_workers=2) as encoder:
        for shard in [shard for shard in range(layout.shards)[process.index :: process.count] if shard in todo]:
            columns: dict[str, list[torch.Tensor]] = {}
            pictures: list[Future[bytes]] = []
            for positions in groups(generator, layout.prompts_of(shard), layout.candidates):
                asked = [prompts[position] for position in positions]
                made, decoded = _variants(generator, asked, config, layout, tower, report)
                for name, tensor in made.items():
                    columns.setdefault(name, []).append(tensor)
                pictures += [encoder.submit(encode, picture, config.pictures) for picture in decoded]
                report.samples += len(asked) * layout.candidates
                progress(len(asked) * layout.candidates)
            waited = time.perf_counter()
            while len(pending) > 1:  # at most two shards wait in memory, beside the one that is being made
                report.bytes_written += pending.pop(0).result().stat().st_size
            report.waiting_s += time.perf_counter() - waited
            pending.append(writer.submit(_write, folder, shard, columns, pictures))
        report.bytes_written += sum(future.result().stat().st_size for future in pending)
    report.total_s = time.perf_counter() - started
    process.wait()
    if process.first and not missing_shards(folder, layout):
        close_set(folder)
    return report


def _write(
    folder: Path, shard: int, columns: Mapping[str, list[torch.Tensor]], pictures: Sequence[Future[bytes]]
) -> Path:
    """Writes a shard, when its pictures are encoded."""
    tensors = {name: torch.cat(parts) for name, parts in columns.items()}
    return write_shard(folder, shard, tensors, [picture.result() for picture in pictures])


def _variants(
    generator: Generator,
    prompts: Sequence[Prompt],
    config: CollectConfig,
    layout: Layout,
    tower: Tower | None,
    report: Report,
) -> tuple[dict[str, torch.Tensor], list[Image]]:
    """The prompts' tensors, prompt by prompt and candidates first, as they are stored, on the CPU; their pictures."""
    pairs = [(prompt, candidate) for prompt in prompts for candidate in range(layout.candidates)]
    noise = noise_of(generator, pairs, config.seed)
    with _timed(report, generator.info.device):
        encoded = [generator.encode([prompt.text])[0] for prompt in prompts]
        text = text_of([one for one in encoded for _ in range(layout.candidates)])
        prefix: Prefix | None = None
        made: dict[str, torch.Tensor] = {}
        if config.blocks:
            states, prefix = generator.hidden_states(noise, text, sorted(config.blocks))
            made = {f"hidden_{block}": hidden for block, hidden in states.items()}
        pictures: list[Image] = []
        if config.latent or config.pictures or config.clip:
            latents = generator.finish(prefix) if prefix else generator.generate(noise, text)
            if config.latent:
                made["latent"] = latents
            if config.pictures or config.clip:
                pictures = generator.decode(latents)
    if config.clip:
        assert tower is not None
        made["clip"] = tower(pictures)
    columns = {}
    for name, tensor in made.items():
        columns |= _stored(tensor, layout, pairs, name)
    columns["prompt"] = torch.tensor([prompt.id for prompt, _ in pairs])
    columns["candidate"] = torch.tensor([candidate for _, candidate in pairs])
    return columns, pictures if config.pictures else []


@contextmanager
def _timed(report: Report, device: str) -> Iterator[None]:
    """Adds the context's time to the generator's share, waiting for the device at its end."""
    started = time.perf_counter()
    yield
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    report.generator_s += time.perf_counter() - started


def _stored(tensor: torch.Tensor, layout: Layout, pairs: Sequence[Pair], name: str) -> dict[str, torch.Tensor]:
    """What a shard holds of a feature. Raises RunError, naming the sample, where it is not finite."""
    expected = (len(pairs), *layout.features[name])
    assert tensor.shape == expected, f"{name}: {tuple(tensor.shape)} instead of {expected}"
    kept = stored(name, tensor, layout.dtype)
    finite = finite_rows(kept.get(name + SCALE, kept[name]))
    if not finite.all():
        row = int((~finite).nonzero()[0])
        prompt, candidate = pairs[row]
        cause = "NaN or infinite" if not torch.isfinite(tensor[row]).all() else f"out of {layout.dtype}'s range"
        raise RunError(
            f"prompt {prompt.id:05d} candidate {candidate}: {name} is {cause}; "
            "the shards written so far are kept" + ("; use dtype: bfloat16" if "range" in cause else "")
        )
    return {key: value.cpu() for key, value in kept.items()}
