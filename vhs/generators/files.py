"""What a SANA-Sprint checkpoint consists of, and whether it is all there."""

from __future__ import annotations

from pathlib import Path

from vhs.checkpoints.bounds import check_tokenizer_sizes, read_config
from vhs.checkpoints.hub import DOWNLOAD
from vhs.checkpoints.weights import check_safetensors, weight_files
from vhs.errors import CheckpointError

WEIGHT_STEMS = {
    "text_encoder": "model",
    "transformer": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
}
"""Component folder -> the stem of its weight files."""

WEIGHTS = (
    "model_index.json",
    "scheduler/*.json",
    "tokenizer/*",
    *(f"{component}/*.json" for component in WEIGHT_STEMS),
    *(f"{component}/{stem}*.safetensors" for component, stem in WEIGHT_STEMS.items()),
)
"""Patterns of the files that a run needs, for a download."""


def check_weight_files(folder: Path) -> None:
    """Raises CheckpointError, naming the file, where one is missing, truncated, corrupt or a pickle."""
    for component, stem in WEIGHT_STEMS.items():
        read_config(folder / component / "config.json")
        for file in weight_files(folder / component, stem):
            check_safetensors(file)
    tokenizer = folder / "tokenizer"
    if not any((tokenizer / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        raise CheckpointError(f"{tokenizer}: has neither tokenizer.json nor tokenizer.model; if Hub's, run: {DOWNLOAD}")
    check_tokenizer_sizes(tokenizer)
