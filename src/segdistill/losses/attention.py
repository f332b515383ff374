"""Attention transfer: match the attention maps of student and teacher."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from segdistill.losses.base import FeatureLoss
from segdistill.losses.masking import full_precision, require_grid, valid_mask


def attention_transfer(
    student_features: Tensor, teacher_features: Tensor, target: Tensor | None = None, *, ignore_index: int = 255
) -> Tensor:
    """Compute the squared distance between the attention maps of two feature maps.

    1 / (2 B) * sum_b ||a_s / ||a_s|| - a_t / ||a_t||||^2, a_i = sum_c f_ci^2 at the valid pixels of an image:
    Zagoruyko and Komodakis, 2017 (arXiv:1612.03928), the activation-based map with p = 2.

    Args:
        student_features: Student features [B, C, H, W].
        teacher_features: Teacher features [B, C', H, W]; they get no gradient.
        target: Labels int64 [B, H, W], used only to exclude void pixels; None counts every pixel.
        ignore_index: Label of void pixels.

    Returns:
        Scalar, from 0 to 1.

    Raises:
        ValueError: If the shapes do not match.
    """
    require_grid(student_features, teacher_features, target)
    valid = valid_mask(student_features, target, ignore_index)
    student, teacher = (
        F.normalize(torch.where(valid[:, None], features, 0).square().sum(dim=1).flatten(1), dim=1)
        for features in (full_precision(student_features), full_precision(teacher_features.detach()))
    )
    seen = valid.flatten(1).any(dim=1).sum().clamp_min(1)
    return 0.5 * (student - teacher).square().sum() / seen


class AttentionTransfer(FeatureLoss):
    """`attention_transfer` as a distillation loss.

    Args:
        student_layer: Name of the student's module whose output is compared, as in `named_modules()`.
        teacher_layer: Name of the teacher's module whose output is compared.
        weight: Weight of this loss in the total.
    """

    def compare(self, student_features: Tensor, teacher_features: Tensor, target: Tensor) -> Tensor:
        """Compute the loss on one grid; see `attention_transfer` for the shapes."""
        return attention_transfer(student_features, teacher_features, target)
