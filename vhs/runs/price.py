"""What a run costs before it is made: downloads, disk, memory and pictures, all without a network or a model."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable

from vhs.checkpoints.download import readable
from vhs.checkpoints.sizes import total
from vhs.checkpoints.source import Source
from vhs.config.run import RunConfig
from vhs.files import BYTES_PER_PIXEL
from vhs.paths import expanded
from vhs.resolve import ResolvedRun, wants_gpu

GIB = 2**30
ROW_BYTES = 700
"""Of one candidate's record, with its line in the annotations."""


def judged_pictures(config: RunConfig, prompts: int) -> int:
    """How many pictures a run saves, over its seeds, besides the copies that mark winners."""
    each = config.num_samples if config.generation_mode == "dev" else config.rule.k
    return prompts * each * len(config.seeds or [0])


def disk(config: RunConfig, prompts: int) -> int:
    """Bytes that a run writes, by rules of thumb: its pictures, the winners' copies, a record per candidate."""
    seeds = len(config.seeds or [0])
    picture = config.image_width * config.image_height * BYTES_PER_PIXEL[config.fmt]
    files = judged_pictures(config, prompts) + prompts * seeds
    return math.ceil(files * picture + prompts * config.num_samples * seeds * ROW_BYTES)


def downloads(sources: Iterable[Source]) -> str:
    """What is still to be fetched, in words."""
    size, unknown = total(sources)
    words = f"{readable(size)} to be fetched" if size else "nothing to be fetched"
    return words + (f", and {', '.join(unknown)}, whose size is not known here" if unknown else "")


def of_run(run: ResolvedRun) -> list[str]:
    """Lines for a dry run."""
    count, models = len(run.prompts), run.models
    reason = wants_gpu(run.config, models.device, models.generator)
    return [
        f"pictures: {judged_pictures(run.config, count)} saved",
        f"disk: {readable(disk(run.config, count))} written (a rule of thumb), {_free(run.config)}",
        f"downloads: {downloads(run.downloads)}",
        f"memory: {memory(run)}",
        *([f"refused here: {reason}"] if reason else []),
    ]


def memory(run: ResolvedRun) -> str:
    """The device's memory at a prompt's peak, counted on the meta device; of what is not shipped, in some seconds."""
    if run.models.generator is None:
        return "not counted: nothing generates"
    from vhs.measure.needs import needs

    # what a machine without a GPU settles on says nothing about the one that the run is meant for
    dtype = "bfloat16" if wants_gpu(run.config, run.models.device, run.models.generator) else run.models.dtype
    found = needs(run, dtype)
    if found is None:
        return "not counted for these models; --estimate measures it on a GPU"
    return (
        f"{found.peak / GIB:.2f} GiB at most, in the stage {found.stage}: weights {found.weights / GIB:.2f}, tensors "
        f"{found.tensors / GIB:.2f} (counted on the meta device in {dtype}; the judge and what a GPU's "
        "libraries take come on top)"
    )


def _free(config: RunConfig) -> str:
    place = expanded(config.output_path).absolute()
    there = next(folder for folder in (place, *place.parents) if folder.exists())
    return f"{readable(shutil.disk_usage(there).free)} free in {there}"
