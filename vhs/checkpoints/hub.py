"""Repositories of the Hugging Face Hub and its cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vhs.errors import CheckpointError, first_line
from vhs.paths import PROJECT

DOWNLOAD = "python inference_scripts/download.py --config <your config>"


def is_hub_id(name: str) -> bool:
    """`name` has the form owner/name, and owner is not a folder here."""
    owner, _, rest = name.partition("/")
    plain = all(part and part[0] not in ".~" and "\\" not in part for part in (owner, rest))
    return plain and "/" not in rest and not any((root / owner).is_dir() for root in (Path.cwd(), PROJECT))


def cached_folder(name: str, files: Sequence[str]) -> Path | None:
    """The snapshot of a Hub repository in the cache, or None; no network is used. `files` are patterns."""
    from huggingface_hub import constants

    if not Path(constants.HF_HUB_CACHE, f"models--{name.replace('/', '--')}").is_dir():
        return None  # found before the rest of the library, which brings an HTTP client, is imported
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=list(files), local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def download(repository: str, key: str, files: Sequence[str]) -> Path:
    """The folder of a repository in the Hub's cache, its `files` (patterns) downloaded where they are missing.

    Raises CheckpointError, naming `key`: no such repository, a gated one, no network.
    """
    from huggingface_hub import errors as hub
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, allow_patterns=list(files)))
    except hub.GatedRepoError:
        remedy = f"accept its terms at https://huggingface.co/{repository} and set HF_TOKEN to a token of that account"
        raise CheckpointError(f"{key}: {repository} is gated: {remedy}") from None
    except (hub.RepositoryNotFoundError, hub.HFValidationError):
        remedy = "check the spelling, or set HF_TOKEN if it is private"
        raise CheckpointError(f"{key}: {repository}: no such repository on the Hugging Face Hub; {remedy}") from None
    except hub.HfHubHTTPError as error:
        raise CheckpointError(f"{key}: {repository}: the Hub answered: {first_line(error)}") from None
    except (hub.LocalEntryNotFoundError, hub.OfflineModeIsEnabled, ConnectionError):
        raise CheckpointError(
            f"{key}: {repository}: not in the Hub cache, and the Hub cannot be reached; with a network run: {DOWNLOAD}"
        ) from None
    except Exception as error:  # a full disk, a time-out in mid-file: whatever the HTTP library raises
        reason = first_line(error)
        raise CheckpointError(f"{key}: {repository}: download failed ({reason}); it goes on with: {DOWNLOAD}") from None
