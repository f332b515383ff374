"""Build the data module that loads a checked dataset as a configuration says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torchvision.transforms import v2

from segdistill.config.model import FitConfig
from segdistill.config.schema import Config
from segdistill.data.datamodule import SegmentationDataModule
from segdistill.data.image_cache import ImageCache
from segdistill.data.sources.base import DatasetIndex
from segdistill.data.workers import default_workers


def build_datamodule(
    config: Config, source: DatasetIndex, fit: FitConfig, augment: Sequence[v2.Transform], *, seed: int
) -> SegmentationDataModule:
    """Build the data module of one training.

    Args:
        config: Checked configuration, of which the keys of `data` and the number of processes are read.
        source: Checked dataset.
        fit: Batch size, scale and crop of the training split.
        augment: Steps on training images and masks after scale and crop.
        seed: Seed of the training order and the augmentation.
    """
    data, processes = config.data, config.trainer.devices
    return SegmentationDataModule(
        source,
        fit,
        augment,
        preprocessing=data.preprocessing,
        eval_batch_size=data.eval_batch_size,
        num_workers=default_workers(processes) if data.num_workers is None else data.num_workers,
        seed=seed,
        images=ImageCache(data.image_cache, Path(config.cache_dir), processes),
        draft=data.draft,
    )
