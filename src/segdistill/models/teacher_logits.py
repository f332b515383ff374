"""A teacher's logits of many pictures, computed once: float16 [C, h, w] each, at the teacher's own stride.

They cover the image and what it takes to whole cells: `whole_cells` of its size.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from segdistill.models.frozen_teacher import FrozenTeacher
from segdistill.models.output import evaluated, lowres_logits
from segdistill.utils.errors import UserError
from segdistill.utils.interpolate import pad_to_cells, whole_cells
from segdistill.utils.io import atomic_write, read_object, write_json

LARGEST = torch.finfo(torch.float16).max
MANIFEST = "manifest.json"


@torch.no_grad()
def logits_shape(network: nn.Module, size: Sequence[int], multiple: int) -> tuple[int, ...]:
    """Return [C, h, w] of a network's native logits of an image [H, W] padded to `multiple`."""
    device = next(network.parameters()).device
    with evaluated(network):
        return tuple(lowres_logits(network, torch.zeros(1, 3, *whole_cells(size, multiple), device=device)).shape[1:])


def weights_digest(network: nn.Module) -> str:
    """Returns a fingerprint of a network's weights and statistics."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def predict_logits(teacher: FrozenTeacher, images: Iterable[Tensor], multiple: int) -> Iterator[NDArray[np.float16]]:
    """Yield the logits of each image of the batches float32 [B, 3, H, W]; what float16 cannot hold is clamped."""
    for image in images:
        logits, _ = teacher(pad_to_cells(image, multiple))
        yield from logits.float().clamp(-LARGEST, LARGEST).half().cpu().numpy()


@dataclass(frozen=True)
class DiskLogitStore:
    """One `.npy` a picture, each written whole, so that an interrupted computation goes on where it was.

    Attributes:
        folder: Holds the files and a manifest of what they were made from.
        count: Pictures.
        shape: [C, h, w] of each.
    """

    folder: Path
    count: int
    shape: tuple[int, ...]

    @classmethod
    def of(cls, cache_dir: Path, made_from: Mapping[str, Any], count: int, shape: tuple[int, ...]) -> DiskLogitStore:
        """Returns the place for the logits of one teacher on one data set.

        Raises:
            UserError: If what lies there was made from something else.
        """
        canonical = json.dumps(made_from, sort_keys=True)
        logits = cls(cache_dir / "logits" / hashlib.sha256(canonical.encode()).hexdigest()[:16], count, shape)
        manifest, identity = logits.folder / MANIFEST, json.loads(canonical)
        if not manifest.is_file():
            write_json(manifest, identity)
        elif (found := read_object(manifest)) != identity:
            differing = ", ".join(key for key in made_from if found.get(key) != identity[key])
            raise UserError(f"{logits.folder}: holds logits of another {differing}; delete the folder")
        return logits

    @property
    def lock(self) -> Path:
        """Held while logits are computed."""
        return self.folder.with_suffix(".lock")

    def missing(self) -> list[int]:
        """Returns the pictures whose logits are not there, or not whole."""
        return [index for index in range(self.count) if not self._is_whole(index)]

    def keep(self, index: int, logits: NDArray[np.float16]) -> None:
        """Writes the logits of one picture."""
        with atomic_write(self._path(index)) as temporary, temporary.open("wb") as file:
            np.save(file, logits)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(np.load(self._path(index)))

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:06d}.npy"

    def _is_whole(self, index: int) -> bool:
        try:
            logits = np.load(self._path(index), mmap_mode="r")
        except (OSError, ValueError, EOFError):  # not there; cut short; empty
            return False
        return bool(logits.shape == self.shape and logits.dtype == np.float16)
