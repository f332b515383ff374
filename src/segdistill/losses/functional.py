"""The losses as pure tensor functions. Each averages over valid pixels, and is 0 where there is none.

Logits are [B, C, H, W] in any floating dtype (half precision is computed in float32), targets int64 [B, H, W].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SMALLEST_RESIDUE = 1e-12  # keeps the focal weight's gradient finite where a pixel is already certain


def pixelwise_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor | None = None,
    *,
    temperature: float,
    ignore_index: int = 255,
) -> Tensor:
    """KL divergence from the teacher's to the student's class distribution, at every pixel.

    T^2 / |V| * sum_{i in V} sum_c p_ic log(p_ic / q_ic), p = softmax(teacher / T), q = softmax(student / T): Hinton
    et al., 2015 (arXiv:1503.02531), applied per pixel as in Liu et al., 2019 (arXiv:1903.04197), equation 2.
    T^2 keeps the gradient's size independent of T.

    Args:
        student_logits: [B, C, H, W].
        teacher_logits: [B, C, H, W]; gets no gradient.
        target: Labels, used for their void pixels only; None counts every pixel.
        temperature: T > 0.
        ignore_index: Label of void pixels.

    Returns:
        Scalar, in nats times T^2.

    Raises:
        ValueError: If the shapes do not fit or the temperature is not above 0.
    """
    if student_logits.shape != teacher_logits.shape:
        shapes = f"{tuple(student_logits.shape)} and {tuple(teacher_logits.shape)}"
        raise ValueError(f"student_logits and teacher_logits must have one shape, got {shapes}")
    if target is not None and target.shape != student_logits[:, 0].shape:
        raise ValueError(f"target must be {tuple(student_logits[:, 0].shape)}, got {tuple(target.shape)}")
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    student = F.log_softmax(_full_precision(student_logits) / temperature, dim=1)
    teacher = F.log_softmax(_full_precision(teacher_logits.detach()) / temperature, dim=1)
    divergence = (teacher.exp() * (teacher - student)).sum(dim=1)
    return temperature**2 * _mean_over_valid(divergence, target, ignore_index)


def focal(logits: Tensor, target: Tensor, *, gamma: float, ignore_index: int = 255) -> Tensor:
    """Cross-entropy that fades for pixels already right: (1 - p_t)^gamma * -log p_t.

    Lin et al., 2017 (arXiv:1708.02002), equation 4. A gamma of 0 is plain cross-entropy.

    Args:
        logits: [B, C, H, W].
        target: int64 [B, H, W].
        gamma: At least 0.
        ignore_index: Label of void pixels.

    Returns:
        Scalar, in nats.
    """
    nats = _pixel_cross_entropy(logits, target, ignore_index)
    residue = (-torch.expm1(-nats)).clamp_min(SMALLEST_RESIDUE)
    return _mean_over_valid(residue**gamma * nats, target, ignore_index)


def cross_entropy(logits: Tensor, target: Tensor, *, ignore_index: int = 255) -> Tensor:
    """-log p_t, averaged over valid pixels.

    Args:
        logits: [B, C, H, W].
        target: int64 [B, H, W].
        ignore_index: Label of void pixels.

    Returns:
        Scalar, in nats.
    """
    return _mean_over_valid(_pixel_cross_entropy(logits, target, ignore_index), target, ignore_index)


def _pixel_cross_entropy(logits: Tensor, target: Tensor, ignore_index: int) -> Tensor:
    return F.cross_entropy(_full_precision(logits), target, ignore_index=ignore_index, reduction="none")


def _full_precision(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def _mean_over_valid(values: Tensor, target: Tensor | None, ignore_index: int) -> Tensor:
    """Mean of [B, H, W] over the pixels that are not void; 0, with a gradient of 0, where all are."""
    if target is None:
        return values.mean()
    valid = target != ignore_index
    return torch.where(valid, values, 0).sum() / valid.sum().clamp_min(1)
