"""The original system's four accuracies and the IoU of every class, computed from one confusion matrix."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import multiclass_confusion_matrix


class SegmentationMetrics(Metric):
    """Accuracies and IoU from a confusion matrix of the whole dataset; exact across batches and processes.

    Unlike `torchmetrics.segmentation.MeanIoU`, it neither averages per image nor counts void pixels.

    Args:
        num_classes: Number of classes C.
        ignore_index: Label of void pixels.
        kwargs: Keyword arguments of `torchmetrics.Metric`.

    Example:
        >>> metrics = SegmentationMetrics(num_classes=2)
        >>> metrics.update(torch.tensor([[[0, 1, 1]]]), torch.tensor([[[0, 1, 0]]]))
        >>> round(float(metrics.compute()["miou"]), 3)
        0.5
    """

    full_state_update = False
    higher_is_better = True
    confusion: Tensor

    def __init__(self, num_classes: int, ignore_index: int = 255, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_classes, self.ignore_index = num_classes, ignore_index
        empty = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self.add_state("confusion", default=empty, dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch to the confusion matrix.

        Args:
            preds: Class ids, integer [B, H, W], or logits [B, C, H, W].
            target: True class ids, integer [B, H, W].

        Raises:
            ValueError: If an id is neither a class nor void.
        """
        if preds.ndim == target.ndim + 1:
            preds = preds.argmax(dim=1)
        ids = torch.where(target == self.ignore_index, 0, torch.maximum(target, preds))
        highest = int(ids.max()) if ids.numel() else 0
        if highest >= self.num_classes:  # torchmetrics counts a prediction beyond the classes in another one's cell
            raise ValueError(f"class id {highest} is neither below num_classes={self.num_classes} nor void")
        self.confusion += multiclass_confusion_matrix(
            preds, target, self.num_classes, ignore_index=self.ignore_index, validate_args=False
        )

    def compute(self) -> dict[str, Tensor]:
        """Return the `scores` of everything counted so far, and the confusion matrix itself as `confusion`."""
        return {**scores(self.confusion), "confusion": self.confusion}


def scores(confusion: Tensor) -> dict[str, Tensor]:
    """Compute the accuracies of a confusion matrix.

    Args:
        confusion: Confusion matrix, integer [C, C], rows are the truth.

    Returns:
        float64 fractions of 1, NaN where nothing was counted: `overall_acc` (correct pixels), `mean_acc` (mean recall
        over the classes that occur), `freqw_acc` (IoU weighted by each class's share of true pixels), `miou` (mean
        over the classes that occur in truth or prediction), `class_iou` [C].
    """
    counts = confusion.cpu().double()  # not every accelerator has float64
    right, truth, predicted = counts.diagonal(), counts.sum(dim=1), counts.sum(dim=0)
    class_iou = right / (truth + predicted - right)
    return {
        "overall_acc": right.sum() / counts.sum(),
        "mean_acc": (right / truth).nanmean(),
        "freqw_acc": (truth / truth.sum() * class_iou).nansum() if counts.any() else counts.sum() / 0,
        "miou": class_iou.nanmean(),
        "class_iou": class_iou,
    }


def collapsed_to(confusion: Tensor) -> int | None:
    """Return the id of the only predicted class; None if several are predicted or nothing was counted.

    Args:
        confusion: Confusion matrix, integer [C, C], rows are the truth.
    """
    predicted = torch.nonzero(confusion.sum(dim=0)).flatten().tolist()
    return int(predicted[0]) if len(predicted) == 1 else None


def never_predicted(confusion: Tensor) -> list[int]:
    """Return the ids of the classes that occur in the truth but in no prediction.

    Args:
        confusion: Confusion matrix, integer [C, C], rows are the truth.
    """
    missed = (confusion.sum(dim=1) > 0) & (confusion.sum(dim=0) == 0)
    return [int(index) for index in torch.nonzero(missed).flatten()]
