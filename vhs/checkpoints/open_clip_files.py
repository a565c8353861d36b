"""A folder in open_clip's layout, before open_clip builds its model: it allocates whatever the configuration says."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vhs.checkpoints.boundary import loading
from vhs.checkpoints.bounds import check_tokenizer_sizes, read_config
from vhs.checkpoints.weights import check_safetensors
from vhs.errors import CheckpointError

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"


def check_open_clip(folder: Path, key: str) -> None:
    """Raises CheckpointError, beginning with `key`, unless the folder's weights are whole and of its configuration,
    which may not ask for code of its own to be run."""
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"{key}: {folder / CONFIG}: is missing")
    values = read_config(folder / CONFIG)
    if "trust_remote_code" in json.dumps(values):
        raise CheckpointError(f"{key}: {folder / CONFIG}: asks for code of its own to be run, which is not done")
    check_tokenizer_sizes(folder)
    if not (folder / WEIGHTS).is_file():
        raise CheckpointError(f"{key}: {folder / WEIGHTS}: is missing")
    check_safetensors(folder / WEIGHTS)
    with loading("open_clip model", f"{key}: {folder}"):
        _check_shapes(folder)


@contextmanager
def unasked() -> Iterator[None]:
    """Where transformers would ask on standard input whether a folder's code may be run, it raises ValueError: for
    libraries that load tokenizers through it and cannot be told so."""
    from transformers import dynamic_module_utils as remote

    before, remote.TIME_OUT_REMOTE_CODE = remote.TIME_OUT_REMOTE_CODE, 0
    try:
        yield
    finally:
        remote.TIME_OUT_REMOTE_CODE = before


@contextmanager
def unwarned() -> Iterator[None]:
    """A model without weights is meant here, of which open_clip warns through the root logger.

    A filter of its own, not `logging.disable`: that is one switch for all threads, which two of them leave on.
    """

    def above_warning(record: logging.LogRecord) -> bool:
        return record.levelno > logging.WARNING

    logging.root.addFilter(above_warning)
    try:
        yield
    finally:
        logging.root.removeFilter(above_warning)


def try_out(model: Any, transform: Any, tokenizer: Any) -> None:
    """One grey picture and one word through a model: what its configuration does not go together in raises here.
    Raises ValueError where what comes out is not finite."""
    import torch
    from PIL import Image

    like = next(model.parameters())
    with torch.inference_mode():
        pixels = transform(Image.new("RGB", (8, 8), (128, 128, 128)))[None].to(like)
        embeddings = model.encode_image(pixels), model.encode_text(tokenizer(["a"]).to(like.device))
    if not all(torch.isfinite(found).all() for found in embeddings):
        raise ValueError("its embeddings are NaN or infinite")


def _check_shapes(folder: Path) -> None:
    import open_clip
    import torch
    from safetensors import safe_open

    with unasked(), torch.device("meta"), unwarned():
        model = open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_image=False, device="meta")
    with safe_open(folder / WEIGHTS, "np") as opened:
        stored = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118 - no dict, it has keys() only
    for name, parameter in model.named_parameters():
        found = stored.get(name)
        if found != tuple(parameter.shape):
            raise ValueError(f"{name} is {found}, not {tuple(parameter.shape)} as its configuration has it")
