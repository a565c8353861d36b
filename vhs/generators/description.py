"""A text-to-image pipeline's folder, read from its JSON files: its class, its network without weights, its sizes."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vhs.checkpoints.boundary import loading, quiet
from vhs.checkpoints.bounds import read_config
from vhs.config.yamlfile import nearest
from vhs.errors import CheckpointError, ConfigError
from vhs.generators.families import HERE, Family, family_of

if TYPE_CHECKING:
    from torch import nn

NETWORKS = ("transformer", "unet")
DESCRIBED_BY = ("model_index.json", "*/config.json", "scheduler/scheduler_config.json")
"""Patterns of the files that are read here."""
NEEDED = ("prompt", "height", "width", "num_inference_steps", "latents", "output_type")
FOREIGN = ("image", "mask_image", "control_image", "video", "num_frames", "audio")
"""Arguments of `__call__` that every text-to-image pipeline has, and such as none has."""


@dataclass(frozen=True)
class Description:
    """What a folder's JSON files say. `pipeline_class` is diffusers' class, `components` the index's entries.

    `network_folder` is another pipeline's folder, whose network and scheduler are used instead (None: the folder's
    own).
    """

    folder: Path
    pipeline_class: type
    components: Mapping[str, tuple[str, str]]
    family: Family
    network_folder: Path | None = None

    @property
    def name(self) -> str:
        """The pipeline's class by name."""
        return self.pipeline_class.__name__

    @property
    def network_name(self) -> str:
        """The component that denoises."""
        return next(name for name in NETWORKS if name in self.components)

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The arguments of `__call__`."""
        return inspect.signature(self.pipeline_class.__call__).parameters

    def default(self, argument: str) -> Any:
        """The default of one of them."""
        return self.parameters[argument].default

    def component_class(self, name: str) -> type:
        """The class of a component. Raises CheckpointError where diffusers and transformers have none of that name."""
        library, class_name = self.components[name]
        found = getattr(importlib.import_module(library), class_name, None) if _known(library) else None
        if found is None:
            raise CheckpointError(
                f"{self.folder / 'model_index.json'}: {name} is a {class_name} of {library}; components of diffusers "
                "and transformers as installed can be loaded (a newer version may have it)"
            )
        return found

    def place(self, component: str) -> Path:
        """A component's folder."""
        other = self.network_folder is not None and component in (*NETWORKS, "scheduler")
        return (self.network_folder if other else self.folder) / component

    def json(self, component: str) -> dict[str, Any]:
        """A component's configuration."""
        return read_config(self.place(component) / _config_name(component))

    @cached_property
    def skeleton(self) -> Any:
        """The pipeline with network and autoencoder on the meta device (no weights), the scheduler, and no text
        encoder."""
        import torch

        names = inspect.signature(self.pipeline_class.__init__).parameters
        parts = dict.fromkeys(
            n for n, p in names.items() if n != "self" and (n in self.components or p.default is p.empty)
        )
        with quiet(), torch.device("meta"):
            for name in (self.network_name, "vae"):
                if name in self.components:
                    parts[name] = self._from_config(name).eval().requires_grad_(False)
        if "requires_safety_checker" in names:
            parts["requires_safety_checker"] = False
        with quiet():
            parts["scheduler"] = self._from_config("scheduler")
            pipeline = self.pipeline_class(**parts)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def _from_config(self, name: str) -> Any:
        with loading(f"configuration of {self.components[name][1]}", self.place(name)):
            return self.component_class(name).from_config(self.json(name))

    @property
    def network(self) -> nn.Module:
        """The network that denoises, on the meta device."""
        return getattr(self.skeleton, self.network_name)

    @cached_property
    def block_lists(self) -> dict[str, int | None]:
        """Lists of blocks in the order in which they run, and how many blocks each has (None: a single block)."""
        from torch import nn

        children = dict(self.network.named_children())
        names = self.family.blocks or [name for name, child in children.items() if isinstance(child, nn.ModuleList)]
        return {name: len(children[name]) if isinstance(children[name], nn.ModuleList) else None for name in names}

    @property
    def short(self) -> str:
        """The list that `hidden_<n>` means: the family's choice, or the longest of a family that is not named."""
        if self.family.blocks:
            return self.family.short or self.family.blocks[0]
        if not self.block_lists:
            raise CheckpointError(
                f"{self.folder}: {self.name} has no list of blocks; name them in its family in {HERE}"
            )
        return max(self.block_lists, key=lambda name: self.block_lists[name] or 0)

    def block(self, block: int | str, key: str = "block") -> tuple[str, int | None]:
        """(list, index in it) of a path such as `transformer_blocks.7`, or of block 7, `hidden_7` (see `numbered`).

        Raises ConfigError, naming `key`, for a block that the network does not have.
        """
        lists = self.block_lists
        if isinstance(block, int):
            if not 0 <= block < len(self.numbered):
                raise ConfigError(
                    f"{key}: block {block} is out of range; {self.name} has {len(self.numbered)} blocks from "
                    f"{self.numbered[0]} on, 0 to {len(self.numbered) - 1}"
                )
            block = self.numbered[block]
        name, _, index = block.partition(".")
        count = lists.get(name, -1)
        if (count is None and not index) or (index.isdigit() and int(index) < (count or 0)):
            return name, int(index) if index else None
        blocks = "; ".join(_counted(name, count) for name, count in lists.items())
        hint = nearest(name, lists) if name not in lists else ""
        raise ConfigError(f"{key}: {self.name} has no block {block}{hint or ';'} it has {blocks}")

    @cached_property
    def numbered(self) -> tuple[str, ...]:
        """The paths of blocks 0, 1, ...: those of the family's own list, then of the lists that run after it."""
        paths = self.paths()
        return tuple(paths[next(i for i, path in enumerate(paths) if path.split(".")[0] == self.short) :])

    def number(self, path: str) -> int | None:
        """A block's number; None for one that runs before the family's own list."""
        return self.numbered.index(path) if path in self.numbered else None

    def paths(self) -> list[str]:
        """Every block's path, in the order in which they run."""
        lists = self.block_lists.items()
        return [name if count is None else f"{name}.{index}" for name, count in lists for index in range(count or 1)]

    def path(self, block: int | str) -> str:
        """The block's path of modules."""
        name, index = self.block(block)
        return name if index is None else f"{name}.{index}"

    @property
    def packed(self) -> bool:
        """The network reads latents as packed tokens of 2 x 2 (FLUX, Qwen-Image)."""
        return hasattr(self.pipeline_class, "_pack_latents")

    @property
    def patch(self) -> int:
        """Side of a token in latent pixels."""
        config = self.network.config
        if self.packed:
            return 2
        sizes = config.get("all_patch_size")
        return sizes[0] if sizes else config.get("patch_size") or 1

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, h, w) of the latents of a picture. Raises ConfigError for a size that the network cannot make."""
        scale = self.skeleton.vae_scale_factor
        unit = scale * self.patch * self._halvings
        for key, value in (("image_height", height), ("image_width", width)):
            if value % unit:
                below = value // unit * unit
                raise ConfigError(
                    f"{key}: {value} is not a multiple of {unit}; use {f'{below} or ' if below else ''}{below + unit}"
                )
        channels = self.network.config.in_channels // (4 if self.packed else 1)
        return channels, height // scale, width // scale

    @property
    def _halvings(self) -> int:
        """By how much a U-Net divides the latents' sides; 1 for a transformer."""
        return 2 ** (len(self.network.config.block_out_channels) - 1) if self.network_name == "unet" else 1

    def hidden_size(self, block: int | str, latent: tuple[int, int, int]) -> tuple[int, int]:
        """(tokens, width) of a block's hidden state."""
        if self.network_name == "unet":
            return _unet_size(self.network.config, *self.block(block), latent)
        tokens = (latent[1] // self.patch) * (latent[2] // self.patch)
        return tokens, self._width()

    def _width(self) -> int:
        config = self.network.config
        if config.get("attention_head_dim") and config.get("num_attention_heads"):
            return config["attention_head_dim"] * config["num_attention_heads"]
        width = next((config[key] for key in ("hidden_size", "dim", "inner_dim") if config.get(key)), None)
        if width is None:
            raise CheckpointError(
                f"{self.folder}: the width of {type(self.network).__name__} is in none of its known keys"
            )
        return width


def describe(folder: Path, network_folder: Path | None = None) -> Description:
    """Reads `folder` (as a pipeline's `save_pretrained` writes it), with the network and scheduler of another one.

    Raises CheckpointError for a folder of another kind, code of a repository's own, or what is not text-to-image.
    """
    import diffusers

    place = folder / "model_index.json"
    index = read_config(place, remedy="a diffusers pipeline has one; give its folder or its Hub id")
    name = index.get("_class_name")
    found = getattr(diffusers, name, None) if isinstance(name, str) else None
    if not isinstance(found, type):
        raise CheckpointError(
            f"{place}: {name} is no pipeline of the installed diffusers; code of a repository is not run"
        )
    components = _components(index)
    _require_text_to_image(place, found, components)
    if network_folder is not None:
        other = network_folder / "model_index.json"
        theirs = read_config(other, remedy="a diffusers pipeline has one; give its folder or its Hub id")
        if theirs.get("_class_name") != name:
            raise CheckpointError(f"{other}: network_ckpt is a {theirs.get('_class_name')}, ckpt is a {name}")
        components |= {key: value for key, value in _components(theirs).items() if key in (*NETWORKS, "scheduler")}
    return Description(folder, found, components, family_of(name), network_folder)


def _components(index: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Component -> (library, class), without those that are switched off."""
    listed = {key: value for key, value in index.items() if isinstance(value, list) and len(value) == 2}
    return {key: (library, name) for key, (library, name) in listed.items() if library and name}


def _config_name(component: str) -> str:
    return "scheduler_config.json" if component == "scheduler" else "config.json"


def _require_text_to_image(place: Path, found: type, components: Mapping[str, Any]) -> None:
    parameters = inspect.signature(found.__call__).parameters
    missing = [name for name in NEEDED if name not in parameters]
    foreign = [name for name in FOREIGN if name in parameters]
    if missing or foreign:
        what = f"takes {foreign[0]}" if foreign else f"has no argument {missing[0]}"
        raise CheckpointError(f"{place}: {found.__name__} is not text-to-image (its __call__ {what}); give one that is")
    for method in ("encode_prompt", "prepare_latents"):
        if not hasattr(found, method):
            raise CheckpointError(
                f"{place}: {found.__name__} has no {method}, through which a call is stopped and resumed"
            )
    if not any(name in components for name in NETWORKS):
        raise CheckpointError(f"{place}: has none of {', '.join(NETWORKS)}, one of which must denoise")


def _unet_size(config: Any, name: str, index: int | None, latent: tuple[int, int, int]) -> tuple[int, int]:
    """(tokens, width) after a block of a U-Net: every down block but the last halves, every up block but the last
    doubles."""
    channels = list(config.block_out_channels)
    last = len(channels) - 1
    depth = {
        "down_blocks": min((index or 0) + 1, last),
        "mid_block": last,
        "up_blocks": max(last - 1 - (index or 0), 0),
    }
    width = {"down_blocks": channels[index or 0], "mid_block": channels[-1], "up_blocks": channels[last - (index or 0)]}
    scale = 2 ** depth[name]
    return (latent[1] // scale) * (latent[2] // scale), width[name]


def _counted(name: str, count: int | None) -> str:
    return name if count is None else f"{name}.0 to .{count - 1} ({count} blocks)"


def _known(library: str) -> bool:
    return library in ("diffusers", "transformers")
