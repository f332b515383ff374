"""What the callbacks need of a trainer, checked once."""

from __future__ import annotations

import numpy as np
import pytorch_lightning as pl

from segdistill.data.datamodule import SegmentationDataModule
from segdistill.tasks.segmentation import SegmentationTask


def task_and_data(
    trainer: pl.Trainer, pl_module: pl.LightningModule
) -> tuple[SegmentationTask, SegmentationDataModule]:
    """Returns the two with their own types.

    Raises:
        TypeError: If the trainer runs something else.
    """
    data = getattr(trainer, "datamodule", None)
    if not isinstance(pl_module, SegmentationTask) or not isinstance(data, SegmentationDataModule):
        raise TypeError(
            "this callback needs a SegmentationTask fitted with a SegmentationDataModule, got "
            f"{type(pl_module).__name__} with {type(data).__name__}"
        )
    return pl_module, data


def spread(total: int, count: int) -> list[int]:
    """Returns up to `count` indices below `total`, evenly spaced from the first to the last."""
    return sorted({round(index) for index in np.linspace(0, total - 1, min(count, total))})
