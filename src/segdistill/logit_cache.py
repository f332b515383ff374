"""`distill.teacher_cache`: the teacher's logits of every training picture, from memory or from the cache folder."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from segdistill.config import Config
from segdistill.data.datamodule import PictureMaps, SegmentationDataModule
from segdistill.errors import ConfigError
from segdistill.losses.functional import pixelwise_kl
from segdistill.machine import available_memory
from segdistill.models.teacher import FrozenTeacher
from segdistill.models.teacher_logits import LogitFolder, computed, logits_shape, weights_digest
from segdistill.resize import nearest, on_grid

BYTES_A_LOGIT = 2
COMPARED_BATCHES = 8
IGNORED = 255
log = logging.getLogger(__name__)


def require_room(config: Config, pictures: int, shape: Sequence[int]) -> None:
    """Announces what the logits of so many pictures take.

    Raises:
        ConfigError: If there is less.
    """
    place, needed = config.distill.teacher_cache, pictures * math.prod(shape) * BYTES_A_LOGIT
    where = "in memory" if place == "memory" else f"on the disk of {config.cache_dir}"
    free = available_memory() if place == "memory" else _free_disk(Path(config.cache_dir))
    log.info("teacher's logits: %d pictures of %s in float16, %s %s", pictures, list(shape), _readable(needed), where)
    if needed > free:
        allowed = f"{pictures} pictures of {list(shape)} take {_readable(needed)}, {where} {_readable(free)} are free"
        raise ConfigError("distill.teacher_cache", place, f"{allowed}; none runs the teacher at every step")


def teacher_logits(
    config: Config, teacher: FrozenTeacher, data: SegmentationDataModule, device: torch.device
) -> PictureMaps:
    """Returns the teacher's logits of every training picture at the input size; computes what is not there yet.

    Args:
        config: Says where they are kept.
        teacher: Moved to `device`.
        data: Whose training split.
        device: What computes.

    Raises:
        UserError: If they do not fit, or the folder holds something else.
    """
    shape, count = logits_shape(teacher.network, data.input_size), len(data.source.splits["train"])
    teacher.to(device, torch.channels_last if config.trainer.channels_last else torch.contiguous_format)
    if config.distill.teacher_cache == "memory":
        require_room(config, count, shape)
        kept = torch.empty(count, *shape, dtype=torch.float16)
        for index, logits in _computed(teacher, data, range(count), device):
            kept[index] = torch.from_numpy(logits)
        return kept
    folder = LogitFolder.of(Path(config.cache_dir), _made_from(config, teacher, data), count, shape)
    with FileLock(folder.lock):
        missing = folder.missing()
        if missing:
            require_room(config, len(missing), shape)
            for index, logits in _computed(teacher, data, missing, device):
                folder.keep(index, logits)
        else:
            log.info("teacher's logits: reused from %s", folder.folder)
    return folder


def report_distance(teacher: FrozenTeacher, data: SegmentationDataModule, device: torch.device) -> None:
    """Logs how far the replayed logits of some training batches are from what the teacher says of them."""
    same, divergence = replay_distance(teacher, islice(data.train_dataloader(), COMPARED_BATCHES), device)
    log.info(
        "teacher's logits: replayed, they have the live teacher's class on %.2f %% of pixels, KL %.4f nats",
        100 * same,
        divergence,
    )


def replay_distance(
    teacher: FrozenTeacher, batches: Iterable[tuple[Tensor, ...]], device: torch.device
) -> tuple[float, float]:
    """Compares replayed logits with what the teacher says of the augmented pictures themselves.

    Args:
        teacher: On `device`.
        batches: (image, mask, replayed logits [B, C, h, w]).
        device: What computes.

    Returns:
        The share of labelled pixels with the same class, and the mean KL divergence from live to replayed, in nats.
    """
    same, divergences = [], []
    for image, mask, replayed in batches:
        live = teacher(image.to(device))[0].float().cpu()
        labels, replayed = nearest(mask, live.shape[-2:]), on_grid(replayed, live.shape[-2:])
        same.append((live.argmax(dim=1) == replayed.argmax(dim=1))[labels != IGNORED])
        divergences.append(pixelwise_kl(replayed, live, labels, temperature=1.0))
    return float(torch.cat(same).float().mean()), float(torch.stack(divergences).mean())


def _computed(
    teacher: FrozenTeacher, data: SegmentationDataModule, pictures: Sequence[int], device: torch.device
) -> Iterator[tuple[int, NDArray[np.float16]]]:
    images = (image.to(device) for image, _ in data.plain_train_dataloader(pictures))
    described = track(computed(teacher, images), "The teacher's logits", total=len(pictures), transient=True)
    return zip(pictures, described, strict=True)


def _made_from(config: Config, teacher: FrozenTeacher, data: SegmentationDataModule) -> dict[str, Any]:
    return {
        "teacher": weights_digest(teacher.network),
        "network": config.teacher.network,
        "class map": config.teacher.class_map,
        "data": data.source.fingerprint,
        "input size": list(data.input_size),
    }


def _free_disk(folder: Path) -> int:
    existing = next(parent for parent in [folder.resolve(), *folder.resolve().parents] if parent.exists())
    return shutil.disk_usage(existing).free


def _readable(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
