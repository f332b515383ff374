"""The teacher's logits of every training image, from memory or from the cache folder."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from rich.progress import track

from segdistill.config.data import IGNORE_INDEX
from segdistill.data.datamodule import Batch, LogitStore, SegmentationDataModule
from segdistill.losses import pixelwise_kl
from segdistill.models.frozen_teacher import FrozenTeacher
from segdistill.models.teacher_logits import DiskLogitStore, logits_shape, predict_logits, weights_digest
from segdistill.utils.code import code_digest
from segdistill.utils.errors import ConfigError
from segdistill.utils.hardware import available_memory
from segdistill.utils.interpolate import interpolate_labels, interpolate_logits, pad_mask, pad_to_cells
from segdistill.utils.io import readable_bytes

BYTES_A_LOGIT = 2
OPTIONAL_BYTES = 2**30
CODE = ("data", "models", "utils/image.py", "utils/interpolate.py", "utils/preprocessing.py")
"""Code that the logits depend on, besides the teacher's weights."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LogitCache:
    """Cache of teacher logits, for one run in memory or for all later runs on disk.

    Attributes:
        place: Storage, "memory" or "disk".
        cache_dir: Root folder of all caches.
        made_from: Settings that shaped the teacher besides its weights, as JSON.
        required: Whether too little room is an error; if not, logits that take more than `OPTIONAL_BYTES` are not
            cached, whatever is free, so that the same run always decides alike.
    """

    place: str
    cache_dir: Path
    made_from: Mapping[str, Any]
    required: bool = True

    def has_room(self, images: int, shape: Sequence[int]) -> bool:
        """Return whether the logits of `images` images are to be cached."""
        needed = _bytes(images, shape)
        if self.required or needed <= OPTIONAL_BYTES:
            return True
        log.info("teacher's logits: would take %s, the teacher runs at every step instead", readable_bytes(needed))
        return False

    def require_room(self, images: int, shape: Sequence[int]) -> None:
        """Log how much room the logits of `images` images take, and check that it is free.

        Raises:
            ConfigError: If less room is free.
        """
        needed = _bytes(images, shape)
        where = "in memory" if self.place == "memory" else f"on the disk of {self.cache_dir}"
        free = available_memory() if self.place == "memory" else _free_disk(self.cache_dir)
        wanted = f"{images} images of {list(shape)} in float16 take {readable_bytes(needed)}"
        log.info("teacher's logits: %s %s", wanted, where)
        if needed > free:
            allowed = f"{wanted}, {readable_bytes(free)} are free {where}; none runs the teacher at every step"
            raise ConfigError("distill.teacher_cache", self.place, allowed)

    def logits(self, teacher: FrozenTeacher, data: SegmentationDataModule, device: torch.device) -> LogitStore:
        """Return the teacher's logits of every training image at the input size; missing ones are computed.

        Args:
            teacher: Frozen teacher, already on `device`.
            data: Data module whose training split is used.
            device: Device to compute on.

        Raises:
            UserError: If the logits do not fit, or the folder holds others.
        """
        shape = logits_shape(teacher.network, data.input_size, data.cell_multiple)
        count = len(data.source.splits["train"])
        if self.place == "memory":
            self.require_room(count, shape)
            kept = torch.empty(count, *shape, dtype=torch.float16)
            for index, logits in _computed(teacher, data, range(count), device):
                kept[index] = torch.from_numpy(logits)
            return kept
        identity = {
            "teacher": weights_digest(teacher.network),
            **self.made_from,
            "code": code_digest(*(f"segdistill/{place}" for place in CODE)),
            "data": data.source.fingerprint,
            "preprocessing": asdict(data.preprocessing),
            "multiple": data.cell_multiple,
        }
        folder = DiskLogitStore.of(self.cache_dir, identity, count, shape)
        with FileLock(folder.lock):
            missing = folder.missing()
            if missing:
                self.require_room(len(missing), shape)
                for index, logits in _computed(teacher, data, missing, device):
                    folder.keep(index, logits)
            else:
                log.info("teacher's logits: reused from %s", folder.folder)
        return folder


def replay_distance(
    teacher: FrozenTeacher, batches: Iterable[Batch], device: torch.device, multiple: int = 1
) -> tuple[float, float]:
    """Compare replayed logits with the teacher's logits of the augmented images themselves.

    Args:
        teacher: Frozen teacher, already on `device`.
        batches: Training batches with `teacher_logits`.
        device: Device to compute on.
        multiple: Multiple to which the sides of the images are padded.

    Returns:
        Share of labelled pixels with the same class, and mean KL divergence from live to replayed logits, in nats.
    """
    same, divergences = [], []
    for batch in batches:
        live = teacher(pad_to_cells(batch["image"], multiple).to(device))[0].float().cpu()
        grid = live.shape[-2:]
        labels = interpolate_labels(pad_mask(batch["mask"], multiple), grid)
        replayed = interpolate_logits(batch["teacher_logits"], grid)
        same.append((live.argmax(dim=1) == replayed.argmax(dim=1))[labels != IGNORE_INDEX])
        divergences.append(pixelwise_kl(replayed, live, labels, temperature=1.0))
    return float(torch.cat(same).float().mean()), float(torch.stack(divergences).mean())


def _computed(
    teacher: FrozenTeacher, data: SegmentationDataModule, indices: Sequence[int], device: torch.device
) -> Iterator[tuple[int, NDArray[np.float16]]]:
    images = (batch["image"].to(device) for batch in data.plain_train_dataloader(indices))
    described = track(
        predict_logits(teacher, images, data.cell_multiple), "The teacher's logits", total=len(indices), transient=True
    )
    return zip(indices, described, strict=True)


def _bytes(images: int, shape: Sequence[int]) -> int:
    return images * math.prod(shape) * BYTES_A_LOGIT


def _free_disk(folder: Path) -> int:
    existing = next(parent for parent in [folder.resolve(), *folder.resolve().parents] if parent.exists())
    return shutil.disk_usage(existing).free
