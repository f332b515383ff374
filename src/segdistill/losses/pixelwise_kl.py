"""Pixel-wise KL divergence between softened class distributions."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from segdistill.config.ranges import require
from segdistill.losses.base import LogitLoss
from segdistill.losses.masking import checked_pair, mean_over_classes, mean_over_valid, with_teachers_classes


def pixelwise_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor | None = None,
    *,
    temperature: float,
    class_balance: float = 0.0,
    only_correct: bool = False,
    ignore_index: int = 255,
) -> Tensor:
    """Compute the KL divergence from the teacher's to the student's class distribution, averaged over pixels.

    T^2 / |V| * sum_{i in V} sum_c p_ic log(p_ic / q_ic), p = softmax(teacher / T), q = softmax(student / T): Hinton
    et al., 2015 (arXiv:1503.02531), applied per pixel as in Liu et al., 2019 (arXiv:1903.04197), equation 2.
    T^2 keeps the scale of the gradient independent of T.

    Args:
        student_logits: Student logits [B, C, H, W].
        teacher_logits: Teacher logits [B, C, H, W]; they get no gradient.
        target: Labels int64 [B, H, W], used to exclude void pixels and for the options below; None counts every pixel.
        temperature: Temperature T > 0 of the softmax.
        class_balance: Exponent from 0, where all pixels count equally, to 1, where all classes present do; see
            `mean_over_classes`. Unlabelled pixels (254) have the teacher's class.
        only_correct: Whether to leave out pixels where the teacher's class is not the label.
        ignore_index: Label of void pixels.

    Returns:
        Scalar, in nats times T^2.

    Raises:
        ValueError: If the shapes do not match, the temperature is not above 0, or an option needs labels.
    """
    divergence = pixel_kl(student_logits, teacher_logits, target, temperature)
    if not class_balance and not only_correct:
        return temperature**2 * mean_over_valid(divergence, target, ignore_index)
    if target is None:
        raise ValueError("class_balance and only_correct need labels, got target=None")
    counted, labels = target != ignore_index, with_teachers_classes(target, teacher_logits)
    if only_correct:
        counted &= teacher_logits.argmax(dim=1) == labels
    return temperature**2 * mean_over_classes(divergence, labels, counted, class_balance)


def pixel_kl(student_logits: Tensor, teacher_logits: Tensor, target: Tensor | None, temperature: float) -> Tensor:
    """Compute KL(p || q) at every pixel, [B, H, W], without the factor T^2."""
    student_logits, teacher_logits = checked_pair(student_logits, teacher_logits, target, temperature)
    student = F.log_softmax(student_logits / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits / temperature, dim=1)
    return (teacher.exp() * (teacher - student)).sum(dim=1)


class PixelwiseKL(LogitLoss):
    """`pixelwise_kl` as a distillation loss.

    Args:
        weight: Weight of this loss in the total.
        temperature: Temperature T > 0 of the softmax.
        class_balance: Exponent from 0, where all pixels count equally, to 1, where all classes present do.
        only_correct: Whether to leave out pixels where the teacher's class is not the label.

    Raises:
        ConfigError: If a value is out of range.
    """

    def __init__(
        self,
        *,
        weight: float = 1.0,
        temperature: float = 1.0,
        class_balance: float = 0.0,
        only_correct: bool = False,
    ) -> None:
        super().__init__(weight=weight, temperature=temperature)
        require(0 <= class_balance <= 1, "class_balance", class_balance, "must be from 0 to 1")
        self.class_balance, self.only_correct = class_balance, only_correct

    def compare(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss on one grid; see `pixelwise_kl` for the shapes."""
        return pixelwise_kl(
            student_logits,
            teacher_logits,
            target,
            temperature=self.temperature,
            class_balance=self.class_balance,
            only_correct=self.only_correct,
        )
