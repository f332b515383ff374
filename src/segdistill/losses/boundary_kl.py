"""KL divergence near the borders between labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from segdistill.losses.base import LogitLoss
from segdistill.losses.masking import with_teachers_classes
from segdistill.losses.pixelwise_kl import pixel_kl


def boundary_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    *,
    temperature: float,
    reach: int = 3,
    ignore_index: int = 255,
) -> Tensor:
    """Compute the KL divergence near the borders between labels, where students are least certain.

    T^2 / sum_i w_i * sum_i w_i KL(p_i || q_i), w_i = max(0, 1 - d_i / (reach + 1)), d_i the Chebyshev distance in
    pixels to the nearest border. After the edge loss of BPKD, Liu et al., 2023 (arXiv:2306.08075), which weights all
    border pixels equally.

    Args:
        student_logits: Student logits [B, C, H, W].
        teacher_logits: Teacher logits [B, C, H, W]; they get no gradient.
        target: Labels int64 [B, H, W]; void has no border, and unlabelled pixels (254) take the teacher's class.
        temperature: Temperature T > 0 of the softmax.
        reach: Number of pixels of this grid on each side of a border that count.
        ignore_index: Label of void pixels.

    Returns:
        Scalar, in nats times T^2; 0 if there is no border.

    Raises:
        ValueError: If the shapes do not match or the temperature is not above 0.
    """
    divergence = pixel_kl(student_logits, teacher_logits, target, temperature)
    weight = border_weight(with_teachers_classes(target, teacher_logits), reach, ignore_index)
    total = torch.where(weight > 0, weight * divergence, 0).sum()
    return temperature**2 * total / weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)


def border_weight(target: Tensor, reach: int, ignore_index: int = 255) -> Tensor:
    """Weight every pixel by its distance to the nearest border between two labels.

    Args:
        target: Labels int64 [B, H, W].
        reach: Number of pixels on each side of a border that count.
        ignore_index: Label of void pixels, which get weight 0.

    Returns:
        float32 [B, H, W]: 1 at a border, falling linearly to 0 at `reach` + 1 pixels from it.
    """
    valid = target != ignore_index
    border = torch.zeros(target.shape, device=target.device)
    for dim in (1, 2):
        length = target.shape[dim] - 1
        before, after = (slice(None),) * dim + (slice(0, length),), (slice(None),) * dim + (slice(1, None),)
        differs = (target[before] != target[after]) & valid[before] & valid[after]
        border[before] = torch.maximum(border[before], differs.float())
        border[after] = torch.maximum(border[after], differs.float())
    weight, near = border.clone(), border
    for _ in range(reach):
        near = F.max_pool2d(near, kernel_size=3, stride=1, padding=1)
        weight += near
    return weight * valid / (reach + 1)


class BoundaryKL(LogitLoss):
    """`boundary_kl` as a distillation loss.

    Args:
        weight: Weight of this loss in the total.
        temperature: Temperature T > 0 of the softmax.
        reach: Number of pixels of the teacher's grid on each side of a border that count.
    """

    def __init__(self, *, weight: float = 1.0, temperature: float = 1.0, reach: int = 3) -> None:
        super().__init__(weight=weight, temperature=temperature)
        self.reach = reach

    def compare(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss on one grid; see `boundary_kl` for the shapes."""
        return boundary_kl(student_logits, teacher_logits, target, temperature=self.temperature, reach=self.reach)
