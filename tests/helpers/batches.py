"""Batches of tensors in the form that a datamodule gives."""

from __future__ import annotations

from typing import cast

from torch import Tensor
from torch.utils.data import DataLoader, Dataset


def batches(images: Tensor, masks: Tensor, batch_size: int = 1) -> DataLoader[dict[str, Tensor]]:
    samples = [{"image": image, "mask": mask} for image, mask in zip(images, masks, strict=True)]
    return DataLoader(cast(Dataset[dict[str, Tensor]], samples), batch_size=batch_size)
