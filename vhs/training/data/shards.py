"""Where a collected set is, and how its shards are read: through memory maps, or whole, one after the other.

A set may lie in an object store or anywhere else that fsspec reaches (`s3://`, `gs://`, `hf://`, ...). There, and
wherever seeking is slow, a shard is read in one piece and kept in memory as long as it is needed.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from vhs.errors import ConfigError, first_line
from vhs.paths import expanded

if TYPE_CHECKING:
    import torch

Tensors = dict[str, "torch.Tensor"]
THREADS = 2
"""Shards that are read at a time, ahead of their use."""


def place(name: str | Path) -> Path:
    """The folder that a set's name means: a path here, or for a URL its like of universal_pathlib.

    Raises ConfigError where the URL's library is not installed, or the store cannot be reached.
    """
    if "://" not in str(name):
        return expanded(name)
    try:
        from upath import UPath
    except ImportError:
        raise ConfigError(f"{name}: a URL is read by universal_pathlib; pip install 'vhs[remote]'") from None
    try:
        found = UPath(str(name))
        found.joinpath("index.json").exists()
    except Exception as error:  # every store's library has errors of its own
        raise ConfigError(f"{name}: cannot be reached ({first_line(error)})") from None
    return found


def is_remote(folder: Path) -> bool:
    """The folder is not one of this machine's file system."""
    return not isinstance(folder, Path)


def read_mapped(path: Path) -> Tensors:
    """A shard's tensors through a memory map: what is not used is not read."""
    from safetensors.torch import load_file

    return load_file(path)


def read_whole(path: Path) -> Tensors:
    """A shard's tensors, read in one piece."""
    from safetensors.torch import load

    return load(path.read_bytes())


class ShardCache:
    """The `size` shards that were asked for last. `expect` reads one ahead in another thread."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._found: OrderedDict[Hashable, Future[Tensors]] = OrderedDict()
        self._lock = threading.Lock()
        self._reader = ThreadPoolExecutor(THREADS, thread_name_prefix="shards")

    def expect(self, key: Hashable, read: Callable[[], Tensors]) -> Future[Tensors]:
        """The shard `key`, which `read` reads unless that was begun already."""
        with self._lock:
            if key not in self._found:
                self._found[key] = self._reader.submit(read)
                while len(self._found) > self.size:
                    self._found.popitem(last=False)
            self._found.move_to_end(key)
            return self._found[key]

    def get(self, key: Hashable, read: Callable[[], Tensors]) -> Tensors:
        """The tensors of the shard. Raises what `read` raises."""
        return self.expect(key, read).result()
