"""Helpers shared by several callbacks."""

from __future__ import annotations

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from segdistill.data.datamodule import SegmentationDataModule
from segdistill.tasks.segmentation import SegmentationTask
from segdistill.tasks.tiled_eval import predict_ids


def task_and_data(
    trainer: pl.Trainer, pl_module: pl.LightningModule
) -> tuple[SegmentationTask, SegmentationDataModule]:
    """Return task and data module with their own types.

    Raises:
        TypeError: If the trainer runs another kind of task or data module.
    """
    data = getattr(trainer, "datamodule", None)
    if not isinstance(pl_module, SegmentationTask) or not isinstance(data, SegmentationDataModule):
        raise TypeError(
            "this callback needs a SegmentationTask fitted with a SegmentationDataModule, got "
            f"{type(pl_module).__name__} with {type(data).__name__}"
        )
    return pl_module, data


def evenly_spaced(total: int, count: int) -> list[int]:
    """Return up to `count` indices below `total`, evenly spaced from the first to the last."""
    return sorted({round(index) for index in np.linspace(0, total - 1, min(count, total))})


def network_input(pixels: NDArray[np.uint8]) -> Tensor:
    """Return an image, uint8 [H, W, 3], as a batch of one, float32 [1, 3, H, W] in [0, 1]."""
    return torch.tensor(pixels).permute(2, 0, 1)[None].float() / 255


@torch.no_grad()
def predict_masks(task: SegmentationTask, pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]]:
    """Return each network's class ids, uint8 [H, W], for an image, uint8 [H, W, 3], by the network's role."""
    image = network_input(pixels)
    masks = {}
    for role, network in task.networks.items():
        ids = predict_ids(network, image.to(next(network.parameters()).device), task.tiling)
        masks[role] = ids[0].cpu().numpy()
    return masks
