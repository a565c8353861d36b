"""Everything that a run reads from elsewhere: what it is, how large, whether it is here, fetched and verified."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vhs import parts
from vhs.config import RunConfig
from vhs.errors import CheckpointError
from vhs.hub import is_hub_id, local_folder

RELEASE_FILES = "aimagelab/vhs-checkpoints"
"""The release's dataset repository of single files: statistics of hidden states, GenEval's detector."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Asset:
    """Files of a Hub repository, named by configuration key `key`. With `target` one file goes there, else all into the
    Hub's cache. `patterns` choose among the files; `kind` is the Hub's repo_type."""

    key: str
    repository: str
    patterns: tuple[str, ...]
    kind: str = "model"
    target: Path | None = None


@dataclass(frozen=True)
class HubFile:
    """A file on the Hub: its name, size in bytes, and SHA-256 where the Hub states one."""

    name: str
    size: int
    sha256: str | None


def needed(config: RunConfig) -> Iterator[Asset]:
    """What a settled configuration needs and does not have as local files, in the order of loading.

    A verifier's config.json, which may name a CLIP tower, is fetched on the way. Raises CheckpointError for a missing
    folder that no Hub id names.
    """
    from vhs.generators import WEIGHTS
    from vhs.generators.lora import PATTERNS

    yield from _folder("ckpt", config.ckpt, WEIGHTS)
    yield from _folder("sana_lora_weights", config.sana_lora_weights, PATTERNS)
    choice = parts.verifier_choice(config)
    if choice.kind == "llava":
        yield from _verifier(config, choice)
    for key in ("normalization_mean_path", "normalization_variance_path"):
        yield from _file(key, getattr(config, key))
    if config.judges:
        yield from _file("segmentation_ckpt_path", config.segmentation_ckpt_path)
        yield from _colors(config.color_classifier)


def _verifier(config: RunConfig, choice: parts.Choice) -> Iterator[Asset]:
    from vhs.verifiers.checkpoint import read_verifier_config
    from vhs.verifiers.clip import PICKLED_TOWER, TOWER_FILES
    from vhs.verifiers.hub import VERIFIER_FILES
    from vhs.verifiers.lora import ADAPTER_FILES

    yield from _folder("latent_verifier_path", choice.path, VERIFIER_FILES)
    yield from _folder("tokenizer_path", config.tokenizer_path, VERIFIER_FILES)
    yield from _folder("lora_weights", config.lora_weights, ADAPTER_FILES)
    verifier = read_verifier_config(choice.path, choice.vision_tower)
    if verifier.tower and not local_folder(verifier.tower, (verifier.folder, verifier.folder.parent)):
        yield from _folder("vision_tower", verifier.tower, (*TOWER_FILES, PICKLED_TOWER))


def _folder(key: str, name: str | None, patterns: tuple[str, ...]) -> Iterator[Asset]:
    if name is None or local_folder(name) or Path(name).is_file():
        return
    if not is_hub_id(name):
        raise CheckpointError(f"{key}: {name}: no such folder, and no Hub id (owner/name) that could be fetched")
    yield Asset(key, name, tuple(patterns))


def _file(key: str, path: str | None) -> Iterator[Asset]:
    if path is not None and not Path(path).exists():
        yield Asset(key, RELEASE_FILES, (Path(path).name,), "dataset", Path(path))


def _colors(name: str) -> Iterator[Asset]:
    if name.startswith(parts.LOCAL_DIR):
        return
    from vhs.geneval.colors import openai_options
    import open_clip

    openai_options(name)
    repository = open_clip.get_pretrained_cfg(name, "openai")["hf_hub"].strip("/")
    yield Asset("color_classifier", repository, ("open_clip_model.safetensors",))


def list_files(asset: Asset) -> list[HubFile]:
    """The asset's files as the Hub states them. Raises CheckpointError, also where the Hub has none of them."""
    from huggingface_hub import HfApi
    from huggingface_hub.utils import filter_repo_objects

    with _hub_errors(asset):
        info = HfApi().repo_info(asset.repository, repo_type=asset.kind, files_metadata=True)
    chosen = filter_repo_objects(info.siblings, allow_patterns=list(asset.patterns), key=lambda file: file.rfilename)
    files = [HubFile(file.rfilename, file.size or 0, file.lfs.sha256 if file.lfs else None) for file in chosen]
    if any(file.name.endswith(".safetensors") for file in files):
        files = [file for file in files if not file.name.endswith(".bin") or file.name.startswith("non_lora")]
    if not files:
        raise CheckpointError(f"{asset.key}: {asset.repository} has no {', '.join(asset.patterns)}; "
                              "fetch the file by hand, or check the name")
    return files


def fetch(asset: Asset, files: list[HubFile], say: Say = print) -> None:
    """Downloads what is missing, with progress, going on where an earlier download stopped, and verifies all of it."""
    from huggingface_hub import hf_hub_download

    for file in files:
        with _hub_errors(asset):
            got = Path(hf_hub_download(asset.repository, file.name, repo_type=asset.kind))
        verify(got, file)
        if asset.target is not None:
            asset.target.parent.mkdir(parents=True, exist_ok=True)
            draft = asset.target.with_name(f".{asset.target.name}.part")
            shutil.copyfile(got, draft)
            draft.replace(asset.target)
    say(f"{asset.key}: {asset.repository}: {len(files)} file{'s' * (len(files) > 1)} here and verified")


def verify(path: Path, file: HubFile) -> None:
    """Size and SHA-256 of a downloaded file; a wrong one is removed, so that the next download starts it again."""
    wrong = None
    if file.size and path.stat().st_size != file.size:
        wrong = f"{path.stat().st_size} bytes instead of {file.size}"
    elif file.sha256 and _sha256(path) != file.sha256:
        wrong = "its SHA-256 is not the Hub's"
    named = re.search(r"-([0-9a-f]{8})\.pth$", file.name)
    if not wrong and named and not _sha256(path).startswith(named[1]):
        wrong = f"its SHA-256 does not begin with {named[1]}, which its name states"
    if wrong:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise CheckpointError(f"{file.name}: damaged on the way ({wrong}); it was removed: run the same command again")


def fetch_all(config: RunConfig, say: Say = print) -> int:
    """Says what a settled configuration needs and how large it is, then fetches and verifies it; returns the bytes in all.

    Raises CheckpointError, before anything large is fetched where the disk is too small.
    """
    listed = []
    for asset in needed(config):
        files = list_files(asset)
        listed.append((asset, files))
        say(f"{asset.key}: {asset.repository}: {len(files)} file{'s' * (len(files) > 1)}, {readable(_size(files))}")
    total = sum(_size(files) for _, files in listed)
    left = sum(_size([file for file in files if not _cached(asset, file)]) for asset, files in listed)
    say(f"in all {readable(total)}, {readable(left)} of it still to be fetched")
    _require_space(left)
    for asset, files in listed:
        fetch(asset, files, say)
    return total


def _size(files: list[HubFile]) -> int:
    return sum(file.size for file in files)


def _cached(asset: Asset, file: HubFile) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(asset.repository, file.name, repo_type=asset.kind), str)


def _require_space(size: int) -> None:
    from huggingface_hub.constants import HF_HUB_CACHE

    place = Path(HF_HUB_CACHE)
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if size > free:
        raise CheckpointError(f"{HF_HUB_CACHE}: {readable(size)} are to be fetched and {readable(free)} are free; "
                              "set HF_HOME to a larger disk")


def readable(size: int) -> str:
    """Bytes as text, in powers of 1,000."""
    value, unit = float(size), "B"
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def _hub_errors(asset: Asset) -> Iterator[None]:
    """The Hub's refusals as one line each."""
    from huggingface_hub import errors as hub

    where = f"{asset.key}: {asset.repository}"
    page = f"https://huggingface.co/{'datasets/' if asset.kind == 'dataset' else ''}{asset.repository}"
    try:
        yield
    except hub.GatedRepoError:
        raise CheckpointError(f"{where} is gated: accept its terms at {page} and set HF_TOKEN to a token of that account") from None
    except hub.RepositoryNotFoundError:
        raise CheckpointError(f"{where}: no such repository on the Hub; check the spelling, or set HF_TOKEN if it is private") from None
    except (hub.LocalEntryNotFoundError, hub.OfflineModeIsEnabled, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{where}: the Hub cannot be reached ({reason}); check the network, HF_ENDPOINT and "
                              "HF_HUB_OFFLINE, then run this command again") from None
