"""One repository of the Hub at a time: what it holds, fetched to the last byte and verified.

The Hub's own client starts a file again when it was interrupted; here a partial file is kept and gone on with.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vhs.errors import CheckpointError, first_line

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
        raise CheckpointError(
            f"{asset.key}: {asset.repository} has no {', '.join(asset.patterns)}; "
            "fetch the file by hand, or check the name"
        )
    return files


def fetch(asset: Asset, files: list[HubFile], say: Say = print) -> None:
    """Downloads what is missing, with progress, going on where an earlier download stopped, and verifies all of it."""
    from huggingface_hub import hf_hub_download

    for file in files:
        with _hub_errors(asset):
            if not cached(asset, file):
                _download(asset, file)
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


def cached(asset: Asset, file: HubFile) -> bool:
    """The Hub's cache has the file."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(asset.repository, file.name, repo_type=asset.kind), str)


def _download(asset: Asset, file: HubFile) -> None:
    """Puts a file's bytes where the Hub's client looks for them, after those that an interrupted download left."""
    from filelock import FileLock
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import http_get, repo_folder_name
    from huggingface_hub.utils import build_hf_headers

    url = hf_hub_url(asset.repository, file.name, repo_type=asset.kind)
    about = get_hf_file_metadata(url)
    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=asset.repository, repo_type=asset.kind) / "blobs"
    blob, partial = folder / about.etag, folder / f"{about.etag}.part"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{partial}.lock"):  # two commands that go on with one partial file would write over each other
        if blob.exists():
            return
        partial.touch()
        have = partial.stat().st_size
        if have != about.size:
            with partial.open("r+b") as stream:
                stream.seek(have)
                http_get(
                    url,
                    stream,
                    resume_size=have,
                    headers=build_hf_headers(),
                    expected_size=about.size,
                    displayed_filename=file.name,
                )
        partial.replace(blob)


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
        raise CheckpointError(
            f"{where} is gated: accept its terms at {page} and set HF_TOKEN to a token of that account"
        ) from None
    except hub.RepositoryNotFoundError:
        raise CheckpointError(
            f"{where}: no such repository on the Hub; check the spelling, or set HF_TOKEN if it is private"
        ) from None
    except Exception as error:
        network = type(error).__module__.startswith("httpx")  # the client's transport, under whichever name it comes
        if not network and not isinstance(error, (hub.LocalEntryNotFoundError, hub.OfflineModeIsEnabled, OSError)):
            raise
        reason = first_line(error)
        raise CheckpointError(
            f"{where}: the Hub cannot be reached ({reason}); check the network, HF_ENDPOINT and "
            "HF_HUB_OFFLINE, then run this command again"
        ) from None
