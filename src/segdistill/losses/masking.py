"""Helpers shared by the losses: shape checks, conversion of half precision, means over valid pixels.

Void pixels (255) count in no loss. Unlabelled pixels (254) count in distillation losses and, where the
teacher's classes are their labels, in the supervised one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from segdistill.config.data import UNLABELLED


def checked_pair(
    student: Tensor, teacher: Tensor, target: Tensor | None, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Check shapes and temperature; return both tensors in float32 or better, the teacher's without gradient."""
    if student.shape != teacher.shape:
        shapes = f"{tuple(student.shape)} and {tuple(teacher.shape)}"
        raise ValueError(f"student and teacher must have one shape, got {shapes}")
    require_grid(student, teacher, target)
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    return full_precision(student), full_precision(teacher.detach())


def require_grid(student: Tensor, teacher: Tensor, target: Tensor | None) -> None:
    """Check that student, teacher and target differ in nothing but their channels."""
    grid = student[:, 0].shape
    if teacher[:, 0].shape != grid:
        raise ValueError(f"student and teacher must have one grid, got {tuple(grid)} and {tuple(teacher[:, 0].shape)}")
    if target is not None and target.shape != grid:
        raise ValueError(f"target must be {tuple(grid)}, got {tuple(target.shape)}")


def valid_mask(logits: Tensor, target: Tensor | None, ignore_index: int) -> Tensor:
    """Return a mask, bool [B, H, W], of the pixels that count."""
    if target is None:
        return torch.ones_like(logits[:, 0], dtype=torch.bool)
    return target != ignore_index


def full_precision(logits: Tensor) -> Tensor:
    """Convert half precision to float32, and leave anything else as it is."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def with_teachers_classes(target: Tensor, teacher_logits: Tensor) -> Tensor:
    """Return labels [B, H, W] in which unlabelled pixels (254) have the teacher's class."""
    return torch.where(target == UNLABELLED, teacher_logits.argmax(dim=1), target)


def mean_over_classes(values: Tensor, target: Tensor, valid: Tensor, class_balance: float) -> Tensor:
    """Compute a mean over valid pixels in which rare classes count more.

    sum_i w_i v_i / sum_i w_i, w_i = n_c^-b for the n_c valid pixels of the class c of pixel i.

    Args:
        values: Value of each pixel, [B, H, W].
        target: Labels int64 [B, H, W].
        valid: Pixels that count, bool [B, H, W]; each has a label.
        class_balance: Exponent b, from 0, a plain mean, to 1, where all classes present count equally.

    Returns:
        Scalar; 0, with a gradient of 0, if no pixel counts.

    Example:
        >>> values, target = torch.tensor([[[1.0, 1.0, 1.0, 5.0]]]), torch.tensor([[[0, 0, 0, 1]]])
        >>> [mean_over_classes(values, target, target >= 0, balance).item() for balance in (0.0, 1.0)]
        [2.0, 3.0]
    """
    labels = target[valid]
    pixels = torch.bincount(labels).clamp_min(1)
    weight = pixels.to(values.dtype).pow(-class_balance)[labels]
    return (weight * values[valid]).sum() / weight.sum().clamp_min(torch.finfo(values.dtype).tiny)


def mean_over_valid(values: Tensor, target: Tensor | None, ignore_index: int) -> Tensor:
    """Compute the mean of values [B, H, W] over the pixels that are not void; 0, with a gradient of 0, if all are."""
    if target is None:
        return values.mean()
    valid = target != ignore_index
    return torch.where(valid, values, 0).sum() / valid.sum().clamp_min(1)
