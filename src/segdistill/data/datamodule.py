"""SegmentationDataModule: a checked data source as batches for Lightning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from segdistill.config import FitConfig
from segdistill.data.source import Source
from segdistill.data.transforms import eval_geometry, to_tensors, train_pipeline
from segdistill.machine import cpu_count

MOST_WORKERS = 8
Batch = tuple[Tensor, Tensor]


class SegmentationDataset(Dataset[Batch]):
    """One split of a source, through a transform.

    Args:
        source: The data.
        split: Which of its splits.
        transform: Takes and returns (tv_tensors.Image uint8 [3, H, W], tv_tensors.Mask uint8 [H, W]).
    """

    def __init__(self, source: Source, split: str, transform: Callable[..., Any]) -> None:
        self.source, self.split, self.transform = source, split, transform

    def __len__(self) -> int:
        return len(self.source.splits[self.split])

    def __getitem__(self, index: int) -> Batch:
        picture, ids = self.source.read(self.split, index)
        image = tv_tensors.Image(torch.tensor(picture).permute(2, 0, 1))
        image, mask = self.transform(image, tv_tensors.Mask(torch.from_numpy(ids)))
        return image.as_subclass(torch.Tensor), mask.as_subclass(torch.Tensor)


class SegmentationDataModule(pl.LightningDataModule):
    """Batches of (image float32 [B, 3, H, W] in [0, 1], mask int64 [B, H, W] with void 255).

    Args:
        source: The checked data.
        fit: Batch size and augmentation of the training split.
        input_size: [H, W] of evaluation.
        eval_batch_size: Pictures a batch in validation and test.
        num_workers: Loader processes; None chooses from the machine.
    """

    def __init__(
        self,
        source: Source,
        fit: FitConfig,
        *,
        input_size: Sequence[int],
        eval_batch_size: int = 8,
        num_workers: int | None = None,
    ) -> None:
        super().__init__()
        self.source, self.fit, self.input_size = source, fit, tuple(input_size)
        self.eval_batch_size = eval_batch_size
        self.num_workers = default_workers() if num_workers is None else num_workers

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled, augmented; the last partial batch is left out unless it is the only one."""
        fit = self.fit
        pipeline = train_pipeline(self.input_size, fit.crop, fit.scale, fit.hflip, fit.jitter)
        dataset = SegmentationDataset(self.source, "train", pipeline)
        whole_batches = len(dataset) >= fit.batch_size
        return self._loader(dataset, fit.batch_size, shuffle=True, drop_last=whole_batches)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Every validation picture, at the input size."""
        return self._eval_loader("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Every picture of the split that results are reported on."""
        return self._eval_loader(self.source.report_split)

    def report_pictures(self) -> Dataset[Batch]:
        """The report split as it comes out of a camera: (uint8 [3, H, W], uint8 [H, W]) at the input size."""
        return SegmentationDataset(self.source, self.source.report_split, eval_geometry(self.input_size))

    def report_picture(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """One of `report_pictures`, as uint8 [H, W, 3] and uint8 [H, W]."""
        image, mask = self.report_pictures()[index]
        return image.permute(1, 2, 0).numpy(), mask.numpy()

    def _eval_loader(self, split: str) -> DataLoader[Batch]:
        pipeline = v2.Compose([eval_geometry(self.input_size), to_tensors()])
        return self._loader(SegmentationDataset(self.source, split, pipeline), self.eval_batch_size)

    def _loader(
        self, dataset: Dataset[Batch], batch_size: int, *, shuffle: bool = False, drop_last: bool = False
    ) -> DataLoader[Batch]:
        return DataLoader(
            dataset,
            batch_size=batch_size,
            shuffle=shuffle,
            drop_last=drop_last,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )


def default_workers() -> int:
    """Returns every core up to eight where a GPU computes, half of them where the cores compute too."""
    cores = cpu_count()
    return min(MOST_WORKERS, cores if torch.cuda.is_available() else max(1, cores // 2))
