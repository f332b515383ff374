"""Decoded images and masks, kept in memory that all loader workers share, or on disk for later runs, too."""

from __future__ import annotations

import hashlib
import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.multiprocessing
from numpy.typing import NDArray
from torch import Tensor

from segdistill.data.split_reader import RGB, SplitReader
from segdistill.utils.errors import ConfigError, first_line
from segdistill.utils.hardware import available_memory
from segdistill.utils.io import atomic_write, readable_bytes

Decoded = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""An image, uint8 [H, W, 3], and its class ids, uint8 [h, w]; neither is to be written to."""

AUTO_SHARE, MAX_SHARE = 0.25, 0.5
"""Shares of the available memory that the cache takes by itself, and on request."""

SHARED_MEMORY = Path("/dev/shm")
SEEN_ONCE = ("test",)
"""Splits that a run reads once or twice, for which memory is not spent."""

log = logging.getLogger(__name__)


class Reader(Protocol):
    """Reads images of a split by their index."""

    def __call__(self, index: int, /) -> Decoded:
        """Return an image and its class ids."""

    def __len__(self) -> int:
        """Return the number of images."""


class Store(Protocol):
    """Decoded images of one split by their index."""

    def get(self, index: int) -> Decoded | None:
        """Return an image and its class ids; None if they are not kept."""

    def keep(self, index: int, decoded: Decoded) -> None:
        """Keep an image and its class ids, if there is room."""


@dataclass(frozen=True)
class ImageCache:
    """Where the decoded images of a data module are kept.

    Attributes:
        place: "none", "memory", "disk", or "auto": memory if the images take at most `AUTO_SHARE` of it, else none.
        cache_dir: Root folder of all caches.
        processes: Number of training processes of this machine, which share its memory.
    """

    place: str = "none"
    cache_dir: Path = Path("cache")
    processes: int = 1

    def attach(self, readers: Mapping[str, SplitReader]) -> dict[str, Reader]:
        """Return readers, by split, that decode an image only if it is not kept yet.

        Raises:
            ConfigError: If the images are to be kept on a disk that has too little room.
        """
        if self.place == "none":
            return dict(readers)
        return self._on_disk(readers) if self.place == "disk" else self._in_memory(readers)

    def _on_disk(self, readers: Mapping[str, SplitReader]) -> dict[str, Reader]:
        folder = self.cache_dir / "images"
        stores = {split: DiskStore(folder, reader) for split, reader in readers.items()}
        missing = {split: stores[split].missing() / len(reader) for split, reader in readers.items()}
        needed = sum(
            int(missing[split] * reader.estimated_bytes) for split, reader in readers.items() if missing[split]
        )
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if needed > free:
            allowed = (
                f"decoded, the images take {readable_bytes(needed)} more; {readable_bytes(free)} are free in {folder}"
            )
            raise ConfigError("data.image_cache", self.place, allowed)
        log.info("decoded images: kept in %s, which grows by %s", folder, readable_bytes(needed))
        return {split: CachedReader(reader, stores[split]) for split, reader in readers.items()}

    def _in_memory(self, readers: Mapping[str, SplitReader]) -> dict[str, Reader]:
        sizes = {split: reader.estimated_bytes for split, reader in readers.items() if split not in SEEN_ONCE}
        needed, room = sum(sizes.values()), self._room()
        wanted = f"those of {' and '.join(sizes)} take {readable_bytes(needed)}"
        if needed > room and self.place == "auto":
            log.info("decoded images: not kept, since %s of %s that may be used", wanted, readable_bytes(room))
            return dict(readers)
        if needed > room:
            log.warning("data.image_cache=memory: %s; the first %s are kept", wanted, readable_bytes(room))
        share = min(1.0, room / needed)
        cached: dict[str, Reader] = dict(readers)
        for split, size in sizes.items():
            cached[split] = CachedReader(readers[split], MemoryStore(len(readers[split]), int(size * share)))
        return cached

    def _room(self) -> int:
        """Return the bytes of shared memory that this process may fill."""
        room = available_memory() * (AUTO_SHARE if self.place == "auto" else MAX_SHARE)
        if SHARED_MEMORY.is_dir():  # a container may have 64 MB of it, and a process that writes beyond them is killed
            room = min(room, shutil.disk_usage(SHARED_MEMORY).free * MAX_SHARE)
        return int(room) // self.processes


@dataclass(frozen=True)
class CachedReader:
    """Reads images of a split from a store, which keeps what had to be decoded."""

    reader: SplitReader
    store: Store

    def __len__(self) -> int:
        return len(self.reader)

    def __call__(self, index: int) -> Decoded:
        """Return an image, uint8 [H, W, 3], and its class ids, uint8 [h, w]."""
        decoded = self.store.get(index)
        if decoded is None:
            decoded = self.reader(index)
            self.store.keep(index, decoded)
        return decoded


class MemoryStore:
    """Decoded images of any size, one after another in a buffer that processes share.

    An image is entered when all of its pixels are there, so that nobody reads half of one. What no longer fits is not
    kept.

    Args:
        count: Number of images.
        capacity: Size of the buffer in bytes.
    """

    def __init__(self, count: int, capacity: int) -> None:
        self._pixels = _shared(torch.empty(capacity, dtype=torch.uint8))
        self._entries = _shared(torch.zeros(count, 5, dtype=torch.int64))  # end, H, W, h, w; end 0: not kept
        self._used = _shared(torch.zeros(1, dtype=torch.int64))
        self._lock = torch.multiprocessing.Lock()

    def get(self, index: int) -> Decoded | None:
        """Return an image and its class ids, as read-only views; None if they are not kept."""
        with self._lock:
            end, *shape = self._entries[index].tolist()
        if not end:
            return None
        image, ids = self._views(end, shape)
        image.flags.writeable = ids.flags.writeable = False
        return image, ids

    def keep(self, index: int, decoded: Decoded) -> None:
        """Keep an image and its class ids, if there is room."""
        image, ids = decoded
        shape = [*image.shape[:2], *ids.shape]
        with self._lock:
            end = int(self._used) + image.size + ids.size
            if end > len(self._pixels):
                return
            self._used.fill_(end)
        for view, pixels in zip(self._views(end, shape), decoded, strict=True):
            view[:] = pixels
        with self._lock:
            self._entries[index] = torch.tensor([end, *shape])

    def _views(self, end: int, shape: Sequence[int]) -> Decoded:
        """Return the part of the buffer in front of `end` as an image and class ids of the shapes H, W, h, w."""
        middle, buffer = end - math.prod(shape[2:]), self._pixels.numpy()
        image = buffer[middle - RGB * math.prod(shape[:2]) : middle].reshape(*shape[:2], RGB)
        return image, buffer[middle:end].reshape(shape[2:])


def _shared(tensor: Tensor) -> Tensor:
    shared: Tensor = tensor.share_memory_()  # type: ignore[no-untyped-call]
    return shared


@dataclass(frozen=True)
class DiskStore:
    """Decoded images as files, named by a hash of all that shapes their pixels, and written whole or not at all.

    Attributes:
        folder: Folder of the files of any number of data sets.
        reader: Reader of the split, which tells what shapes an image.
    """

    folder: Path
    reader: SplitReader

    def missing(self) -> int:
        """Return the number of images that are not kept yet."""
        return sum(not self._path(index).is_file() for index in range(len(self.reader)))

    def get(self, index: int) -> Decoded | None:
        """Return an image and its class ids; None if there is no whole file of them."""
        try:
            with self._path(index).open("rb") as file:
                return np.load(file, allow_pickle=False), np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError):  # missing, truncated or empty
            return None

    def keep(self, index: int, decoded: Decoded) -> None:
        """Write an image and its class ids; without room for them, a training goes on."""
        try:
            with atomic_write(self._path(index)) as temporary, temporary.open("wb") as file:
                for pixels in decoded:
                    np.save(file, np.ascontiguousarray(pixels))
        except OSError as error:
            _warn_once(self.folder, first_line(error))

    def _path(self, index: int) -> Path:
        name = hashlib.sha256(self.reader.identity(index).encode()).hexdigest()
        return self.folder / name[:2] / f"{name[2:34]}.npy"


@cache
def _warn_once(folder: Path, reason: str) -> None:
    log.warning("decoded images are no longer kept in %s: %s", folder, reason)
