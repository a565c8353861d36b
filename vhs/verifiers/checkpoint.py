"""The published on-disk format (LLaVA-Qwen): what a verifier's folder says, and its tensors.

config.json holds Qwen2's or Qwen3's own keys and the `mm_*` keys of the picture's side; `model.*` and `lm_head.weight`
are the LLM, `model.mm_projector.*` the connector, `model.vision_tower.*` (optional) a tuned CLIP tower. Nothing here
depends on a folder's name.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vhs.checkpoints.boundary import loading
from vhs.checkpoints.bounds import read_config
from vhs.checkpoints.weights import check_safetensors, weight_files
from vhs.errors import CheckpointError
from vhs.verifiers.base import Reads
from vhs.verifiers.feature_names import blocks_in, hidden, named

if TYPE_CHECKING:
    import torch
    from torch import nn

logger = logging.getLogger(__name__)

VERIFIER_FILES = ("*.json", "*.safetensors", "*.txt", "*.jinja")
"""What a verifier or a language model consists of: configuration, safetensors, tokenizer."""
MODEL_TYPES = {"llava_qwen": "qwen2", "llava_qwen3": "qwen3"}
GENERATOR_RECORD = "vhs_generator"
"""Key of config.json: the generator whose features a verifier was trained on. The published ones have none."""
TEMPERATURE = "vhs_temperature"
"""Key of config.json: what its log-odds are divided by so that p(yes) is a probability, where that was fitted."""
INPUT_RECORD = "vhs_input"
"""Key of config.json: what a score depends on beside the checkpoint, as it was in training. The published ones have
none."""
CONNECTOR_PREFIX = "model.mm_projector."
TOWER_PREFIX = "model.vision_tower."


@dataclass(frozen=True)
class VerifierConfig:
    """What config.json says of a verifier, and what can be checked before a weight is read.

    `blocks`: those whose outputs are read, side by side; `width`: channels of an incoming token, of all of them
    together; `hidden_size`: width of the LLM; `tower`: the CLIP model's name where pictures are read; `normalize`:
    hidden states are normalised by the run's statistics; `raw`: the whole file.
    """

    folder: Path
    model_type: str
    reads: Reads
    blocks: tuple[int, ...]
    width: int
    hidden_size: int
    projector_type: str
    swap: bool
    tower: str | None
    select_layer: int
    select_feature: str
    normalize: bool
    raw: Mapping[str, Any] = field(repr=False)

    @property
    def block(self) -> int | None:
        """The last block that is read, where the generator stops."""
        return self.blocks[-1] if self.blocks else None

    @property
    def trained_on(self) -> Mapping[str, Any] | None:
        """What it recorded of the generator whose features it was trained on, where it reads a generator's features."""
        return self.raw.get(GENERATOR_RECORD) if self.reads in ("hidden", "latent") else None

    @property
    def temperature(self) -> float | None:
        """What training has fitted so that p(yes) is a probability; None where the checkpoint states none."""
        return self.raw.get(TEMPERATURE)

    @property
    def input(self) -> Mapping[str, Any]:
        """What was recorded of training's inputs: `use_generation_prompt`, and the `digest` of its `statistics` (None:
        none were used); empty where the checkpoint says nothing."""
        return self.raw.get(INPUT_RECORD, {})


def read_verifier_config(folder: Path, vision_tower: str | None = None) -> VerifierConfig:
    """Reads a folder's config.json, and checks it against the run's `vision_tower`.

    `vision_tower` is `hidden_<block>`, `latent`, or a CLIP model id or folder; None takes what the file says. A CLIP
    tower that the run names replaces the file's: it says where the same weights are.

    Raises:
        CheckpointError: no config.json, another format, or another input than the run's.
    """
    file = folder / "config.json"
    raw = read_config(file, remedy="a verifier's folder has config.json, weights and tokenizer")
    with loading("verifier's config.json", file):
        return _parsed(folder, file, raw, vision_tower)


def _parsed(folder: Path, file: Path, raw: Mapping[str, Any], vision_tower: str | None) -> VerifierConfig:
    _check_supported(file, raw)
    reads, blocks, tower = _resolve_tower(file, raw, vision_tower)
    width = raw.get("hidden_dim", raw["mm_hidden_size"]) if reads == "hidden" else raw["mm_hidden_size"]
    if blocks and width % len(blocks):
        raise CheckpointError(f"{file}: hidden_dim {width} does not divide among the blocks {blocks}; it is damaged")
    return VerifierConfig(
        folder=folder,
        model_type=raw["model_type"],
        reads=reads,
        blocks=blocks,
        width=width,
        hidden_size=raw["hidden_size"],
        projector_type=raw.get("mm_projector_type", "linear"),
        swap=bool(raw.get("swap", False)),
        tower=tower,
        select_layer=raw.get("mm_vision_select_layer", -2),
        select_feature=raw.get("mm_vision_select_feature", "patch"),
        normalize=raw.get("mm_vision_normalize", True),
        raw=raw,
    )


def parse_tower(name: str) -> tuple[Reads, tuple[int, ...]]:
    """What a `vision_tower` reads, and the blocks it names: ("hidden", (7,)) for `hidden_7`, ("hidden", (5, 7)) for
    `hidden_5+7`, ("latent", ()), ...

    The release's own names for the latent are `dummy` and `vae`.

    Raises:
        CheckpointError: hidden states of no named blocks, which nothing here can read.
    """
    if name == "hidden" or blocks_in(name):
        return "hidden", blocks_in(name)
    if name.startswith("hidden_") and "/" not in name:
        raise CheckpointError(
            f"vision_tower: {name!r} is not supported; write hidden_<block>, as in hidden_7, or hidden_5+7 for two"
        )
    if name in ("latent", "dummy", "vae"):
        return "latent", ()
    return "image", ()


def _check_supported(file: Path, raw: Mapping[str, Any]) -> None:
    if raw.get("model_type") not in MODEL_TYPES:
        raise CheckpointError(
            f"{file}: model_type is {raw.get('model_type')!r}; a verifier has one of {', '.join(MODEL_TYPES)}"
        )
    if any("regression" in name.lower() for name in raw.get("architectures") or ()):
        raise CheckpointError(f"{file}: architectures: a regression head is not supported; use a yes/no verifier")
    if raw.get("s2"):
        raise CheckpointError(f"{file}: s2: multi-scale CLIP features are not supported; use a verifier without them")
    needed = ("hidden_size", "mm_hidden_size", "vocab_size", "mm_vision_tower")
    missing = [key for key in needed if raw.get(key) is None]
    if missing:
        raise CheckpointError(f"{file}: {', '.join(missing)} missing; a verifier's config.json has them")
    for key in ("hidden_size", "mm_hidden_size", "hidden_dim", "vocab_size", "num_hidden_layers"):
        value = raw.get(key, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise CheckpointError(f"{file}: {key} is {value!r}; a whole number from 1 is needed")
    temperature = raw.get(TEMPERATURE, 1.0)
    if isinstance(temperature, bool) or not isinstance(temperature, (int, float)) or not 0 < temperature < 1e6:
        raise CheckpointError(f"{file}: {TEMPERATURE} is {temperature!r}; a positive number is needed")
    if INPUT_RECORD in raw and not _is_input_record(raw[INPUT_RECORD]):
        raise CheckpointError(
            f"{file}: {INPUT_RECORD} is {raw[INPUT_RECORD]!r}; use_generation_prompt (true or false) and statistics (a "
            "hash or null) are needed; copy the file again, or leave this key out"
        )


def _is_input_record(record: object) -> bool:
    return (
        isinstance(record, Mapping)
        and isinstance(record.get("use_generation_prompt"), bool)
        and isinstance(record.get("statistics"), str | None)
    )


def _resolve_tower(file: Path, raw: Mapping[str, Any], wanted: str | None) -> tuple[Reads, tuple[int, ...], str | None]:
    reads, blocks = parse_tower(raw["mm_vision_tower"])
    if reads == "hidden":
        blocks = blocks_in(str(raw.get("mm_vision_select_feature")).replace("block_", "hidden_", 1)) or blocks
    if wanted is None:
        return reads, blocks, raw["mm_vision_tower"] if reads == "image" else None
    wanted_reads, wanted_blocks = parse_tower(wanted)
    if wanted_reads != reads:
        raise CheckpointError(
            f"vision_tower: {wanted!r} reads {wanted_reads} features, but {file} is a verifier of {reads} features "
            f"(mm_vision_tower: {raw['mm_vision_tower']!r})"
        )
    if blocks and wanted_blocks and blocks != wanted_blocks:
        raise CheckpointError(
            f"vision_tower: {wanted!r} names block {named(wanted_blocks)}, but {file} was trained on block "
            f"{named(blocks)}; write {hidden(blocks)}"
        )
    return reads, blocks or wanted_blocks, wanted if reads == "image" else None


@cache
def warn_of_sampling(folder: Path) -> None:
    """Says once per checkpoint that its generation_config.json changes no score here."""
    file = folder / "generation_config.json"
    if file.is_file() and read_config(file).get("do_sample"):
        logger.warning("%s: its sampling settings are ignored: scores are the LLM's own probabilities", file)


@cache
def warn_of_statistics(folder: Path, trained: str | None, own: str | None) -> None:
    """Says once per checkpoint that its hidden states are normalised by others than the statistics of its training."""
    if trained is not None and trained != own:
        logger.warning("%s: was trained with other statistics than this run's; its scores will differ", folder)


def read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a folder's model.safetensors, or of the shards that its index.json lists, on the CPU.

    Raises:
        CheckpointError: no such file, a shard is missing, a file is truncated or corrupt, or a pickle.
    """
    from safetensors.torch import load_file

    tensors: dict[str, torch.Tensor] = {}
    for file in _whole_files(folder):
        with loading("weight file", file):
            tensors.update(load_file(file))
    return tensors


def read_shapes(folder: Path) -> dict[str, torch.Tensor]:
    """As `read_tensors`, from the files' headers alone: tensors on the meta device."""
    import torch
    from safetensors import safe_open

    shapes: dict[str, torch.Tensor] = {}
    for file in _whole_files(folder):
        with loading("weight file", file), safe_open(file, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - no dict, it has keys() only
                shapes[name] = torch.empty(opened.get_slice(name).get_shape(), device="meta")
    return shapes


def _whole_files(folder: Path) -> list[Path]:
    files = weight_files(folder, "model")
    for file in files:
        check_safetensors(file)
    return files


def fill(module: nn.Module, tensors: Mapping[str, torch.Tensor], what: str, tied: Iterable[str] = ()) -> None:
    """Puts `tensors` in the place of all of `module`'s parameters and buffers, in the tensors' own dtype.

    `tied` names those of the module that need no tensor of their own. `what` names the file and prefix in errors.

    Raises:
        CheckpointError: tensors are missing, left over or of another shape; all of them are listed.
    """
    expected = module.state_dict()
    missing = sorted(expected.keys() - tensors.keys() - set(tied))
    unexpected = sorted(tensors.keys() - expected.keys())
    shapes = [
        f"{name} {tuple(tensors[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in sorted(expected.keys() & tensors.keys())
        if tensors[name].shape != expected[name].shape
    ]
    faults = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
    if any(faults.values()):
        told = "; ".join(f"{kind}: {_listed(names)}" for kind, names in faults.items() if names)
        raise CheckpointError(f"{what}: tensors do not fit config.json: {told}")
    module.load_state_dict(dict(tensors), strict=False, assign=True)


def _listed(names: list[str]) -> str:
    return ", ".join(names)
