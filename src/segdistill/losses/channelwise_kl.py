"""CWD: KL divergence between the places where each channel is active."""

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
    """CWD: KL divergence between the places where each channel is active.

    T^2 / (B C) * sum_b sum_c sum_{i in V_b} p_bci log(p_bci / q_bci), where p and q are the softmax of a channel's
    logits / T over the valid pixels of a picture: Shu et al., 2021 (arXiv:2011.13256). Pictures without valid pixels
    are not counted in B.

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
    student_logits, teacher_logits = checked_pair(student_logits, teacher_logits, target, temperature)
    valid = valid_mask(student_logits, target, ignore_index).flatten(1)[:, None]
    seen = valid.any(dim=2, keepdim=True)
    hidden = ~valid & seen  # a picture that is all void keeps its logits, for a softmax of nothing has no gradient
    student, teacher = (
        F.log_softmax((logits.flatten(2) / temperature).masked_fill(hidden, -torch.inf), dim=2)
        for logits in (student_logits, teacher_logits)
    )
    divergence = torch.where(valid, teacher.exp() * (teacher - student), 0).sum(dim=(1, 2))
    return temperature**2 * divergence.sum() / (seen.sum().clamp_min(1) * student_logits.shape[1])


class ChannelwiseKL(LogitLoss):
    """`channelwise_kl` as a distillation loss.

    Args:
        weight: Of this loss in the sum.
        temperature: T > 0.
    """

    def compare(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss on one grid; shapes as of `channelwise_kl`."""
        return channelwise_kl(student_logits, teacher_logits, target, temperature=self.temperature)
