"""A teacher's logits of many images, computed once: float16 [C, h, w] each, at the teacher's own stride.

They cover the image padded to whole cells: `whole_cells` of its size.
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
    """Return the shape [C, h, w] of a network's own logits of an image [H, W] padded to `multiple`."""
    device = next(network.parameters()).device
    with evaluated(network):
        return tuple(lowres_logits(network, torch.zeros(1, 3, *whole_cells(size, multiple), device=device)).shape[1:])


def weights_digest(network: nn.Module) -> str:
    """Compute a fingerprint of a network's weights and statistics."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def predict_logits(teacher: FrozenTeacher, images: Iterable[Tensor], multiple: int) -> Iterator[NDArray[np.float16]]:
    """Yield the logits of each image of the batches float32 [B, 3, H, W], clamped to the range of float16."""
    for image in images:
        logits, _ = teacher(pad_to_cells(image, multiple))
        yield from logits.float().clamp(-LARGEST, LARGEST).half().cpu().numpy()


@dataclass(frozen=True)
class DiskLogitStore:
    """One `.npy` file per image, each written atomically, so that an interrupted computation can be resumed.

    Attributes:
        folder: Folder of the files and of a manifest of what they were made from.
        count: Number of images.
        shape: Shape [C, h, w] of each image's logits.
    """

    folder: Path
    count: int
    shape: tuple[int, ...]

    @classmethod
    def of(cls, cache_dir: Path, made_from: Mapping[str, Any], count: int, shape: tuple[int, ...]) -> DiskLogitStore:
        """Return the store for the logits of one teacher on one data set.

        Raises:
            UserError: If the folder holds logits that were made from something else.
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
        """Lock file that is held while logits are computed."""
        return self.folder.with_suffix(".lock")

    def missing(self) -> list[int]:
        """Return the indices of images whose logits are missing or incomplete."""
        return [index for index in range(self.count) if not self._is_whole(index)]

    def keep(self, index: int, logits: NDArray[np.float16]) -> None:
        """Write the logits of one image."""
        with atomic_write(self._path(index)) as temporary, temporary.open("wb") as file:
            np.save(file, logits)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(np.load(self._path(index)))

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:06d}.npy"

    def _is_whole(self, index: int) -> bool:
        try:
            logits = np.load(self._path(index), mmap_mode="r")
        except (OSError, ValueError, EOFError):  # missing, truncated or empty
            return False
        return bool(logits.shape == self.shape and logits.dtype == np.float16)
