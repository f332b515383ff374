"""DIST: match the teacher's relations between and within classes."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from segdistill.losses.base import LogitLoss
from segdistill.losses.masking import checked_pair, valid_mask

MIN_VARIATION = 1e-16  # a sum of squares below it has no direction in float32


def dist_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor | None = None,
    *,
    temperature: float,
    beta: float = 1.0,
    gamma: float = 1.0,
    ignore_index: int = 255,
) -> Tensor:
    """Compute DIST: one minus the correlation of the student's predictions with the teacher's.

    T^2 * (beta * (1 - mean_i r(p_i, q_i)) + gamma * (1 - mean_c r(p^c, q^c))), r Pearson's correlation, p and q the
    softmax of logits / T; a row p_i holds the classes of a valid pixel, a column p^c a class at all valid pixels of
    the batch: Huang et al., 2022 (arXiv:2205.10536). Rows and columns without variation count as uncorrelated.

    Args:
        student_logits: Student logits [B, C, H, W].
        teacher_logits: Teacher logits [B, C, H, W]; they get no gradient.
        target: Labels int64 [B, H, W], used only to exclude void pixels; None counts every pixel.
        temperature: Temperature T > 0 of the softmax.
        beta: Weight of the relation between classes.
        gamma: Weight of the relation within a class.
        ignore_index: Label of void pixels.

    Returns:
        Scalar, from 0 to 2 T^2 (beta + gamma).

    Raises:
        ValueError: If the shapes do not match or the temperature is not above 0.
    """
    student_logits, teacher_logits = checked_pair(student_logits, teacher_logits, target, temperature)
    valid = valid_mask(student_logits, target, ignore_index)
    student, teacher = (
        F.softmax(logits / temperature, dim=1).movedim(1, -1)[valid] for logits in (student_logits, teacher_logits)
    )
    between = (1 - _correlation(student, teacher, dim=1)).sum() / valid.sum().clamp_min(1)
    within = (1 - _correlation(student, teacher, dim=0)).mean() * valid.any()
    return temperature**2 * (beta * between + gamma * within)


def _correlation(a: Tensor, b: Tensor, dim: int) -> Tensor:
    """Compute Pearson's correlation along `dim`; 0, with a gradient of 0, where an input does not vary."""
    a, b = a - a.mean(dim, keepdim=True), b - b.mean(dim, keepdim=True)
    # Two roots instead of the root of a product, whose gradient would overflow long before theirs.
    of_a, of_b = (x.square().sum(dim).clamp_min(MIN_VARIATION).rsqrt() for x in (a, b))
    return (a * b).sum(dim) * of_a * of_b


class DIST(LogitLoss):
    """`dist_loss` as a distillation loss.

    Args:
        weight: Weight of this loss in the total.
        temperature: Temperature T > 0 of the softmax.
        beta: Weight of the relation between classes.
        gamma: Weight of the relation within a class.
    """

    def __init__(self, *, weight: float = 1.0, temperature: float = 1.0, beta: float = 1.0, gamma: float = 1.0) -> None:
        super().__init__(weight=weight, temperature=temperature)
        self.beta, self.gamma = beta, gamma

    def compare(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss on one grid; see `dist_loss` for the shapes."""
        return dist_loss(
            student_logits,
            teacher_logits,
            target,
            temperature=self.temperature,
            beta=self.beta,
            gamma=self.gamma,
        )
