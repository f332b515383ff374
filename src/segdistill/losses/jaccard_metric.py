"""Jaccard metric loss: match the teacher's classes as regions, rare ones as much as frequent ones."""

from __future__ import annotations

import torch
from torch import Tensor

from segdistill.losses.base import LogitLoss
from segdistill.losses.masking import checked_pair, valid_mask


def jaccard_metric_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor | None = None,
    *,
    temperature: float,
    ignore_index: int = 255,
) -> Tensor:
    """Compute one minus the soft intersection over union of the student's and the teacher's classes.

    mean_c 1 - (|p_c + q_c| - |p_c - q_c|) / (|p_c + q_c| + |p_c - q_c|), |.| the sum of magnitudes over all valid
    pixels of the batch, p and q the softmax of logits / T; c runs over the classes that the teacher predicts somewhere:
    JML1 of Wang et al., 2023 (arXiv:2302.05666). Where both are one-hot, it is one minus their intersection over union.

    Args:
        student_logits: Student logits [B, C, H, W].
        teacher_logits: Teacher logits [B, C, H, W]; they get no gradient.
        target: Labels int64 [B, H, W], used only to exclude void pixels; None counts every pixel.
        temperature: Temperature T > 0 of the softmax.
        ignore_index: Label of void pixels.

    Returns:
        Scalar, from 0 to 1; 0 if there is no valid pixel.

    Raises:
        ValueError: If the shapes do not match or the temperature is not above 0.
    """
    student_logits, teacher_logits = checked_pair(student_logits, teacher_logits, target, temperature)
    valid = valid_mask(student_logits, target, ignore_index)
    student, teacher = (
        torch.where(valid[:, None], (logits / temperature).softmax(dim=1), 0)
        for logits in (student_logits, teacher_logits)
    )
    both, apart = (student + teacher).sum((0, 2, 3)), (student - teacher).abs().sum((0, 2, 3))
    predicted = torch.bincount(teacher_logits.argmax(dim=1)[valid], minlength=len(both)) > 0
    missed = torch.where(predicted, 2 * apart / (both + apart).where(predicted, 1), 0)
    return missed.sum() / predicted.sum().clamp_min(1)


class JaccardMetricLoss(LogitLoss):
    """`jaccard_metric_loss` as a distillation loss.

    Args:
        weight: Weight of this loss in the total.
        temperature: Temperature T > 0 of the softmax.
    """

    def compare(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss on one grid; see `jaccard_metric_loss` for the shapes."""
        return jaccard_metric_loss(student_logits, teacher_logits, target, temperature=self.temperature)
