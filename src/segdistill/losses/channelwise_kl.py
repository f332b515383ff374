"""CWD: KL divergence between the spatial distributions of each channel's activation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from segdistill.losses.base import LogitLoss
from segdistill.losses.masking import checked_pair, valid_mask


def channelwise_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor | None = None,
    *,
    temperature: float,
    ignore_index: int = 255,
) -> Tensor:
    """Compute CWD, the KL divergence between the spatial distributions of each channel's activation.

    T^2 / (B C) * sum_b sum_c sum_{i in V_b} p_bci log(p_bci / q_bci), where p and q are the softmax of a channel's
    logits / T over the valid pixels of an image: Shu et al., 2021 (arXiv:2011.13256). Images without valid pixels
    are not counted in B.

    Args:
        student_logits: Student logits [B, C, H, W].
        teacher_logits: Teacher logits [B, C, H, W]; they get no gradient.
        target: Labels int64 [B, H, W], used only to exclude void pixels; None counts every pixel.
        temperature: Temperature T > 0 of the softmax.
        ignore_index: Label of void pixels.

    Returns:
        Scalar, in nats times T^2.

    Raises:
        ValueError: If the shapes do not match or the temperature is not above 0.
    """
    student_logits, teacher_logits = checked_pair(student_logits, teacher_logits, target, temperature)
    valid = valid_mask(student_logits, target, ignore_index).flatten(1)[:, None]
    seen = valid.any(dim=2, keepdim=True)
    hidden = ~valid & seen  # an all-void image keeps its logits, because a softmax over nothing has no gradient
    student, teacher = (
        F.log_softmax((logits.flatten(2) / temperature).masked_fill(hidden, -torch.inf), dim=2)
        for logits in (student_logits, teacher_logits)
    )
    divergence = torch.where(valid, teacher.exp() * (teacher - student), 0).sum(dim=(1, 2))
    return temperature**2 * divergence.sum() / (seen.sum().clamp_min(1) * student_logits.shape[1])


class ChannelwiseKL(LogitLoss):
    """`channelwise_kl` as a distillation loss.

    Args:
        weight: Weight of this loss in the total.
        temperature: Temperature T > 0 of the softmax.
    """

    def compare(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss on one grid; see `channelwise_kl` for the shapes."""
        return channelwise_kl(student_logits, teacher_logits, target, temperature=self.temperature)
