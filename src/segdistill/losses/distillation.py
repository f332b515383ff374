"""Weighted sum of the supervised loss and the distillation losses."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from torch import Tensor, nn

from segdistill.config.data import IGNORE_INDEX, UNLABELLED
from segdistill.losses.base import FeatureLoss, LogitLoss, ModelOutput, SupervisedLoss
from segdistill.losses.masking import with_teachers_classes
from segdistill.utils.interpolate import resized

ALPHA_SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: progress,
    "cosine": lambda progress: (1 + math.cos(math.pi * progress)) / 2,
}
"""Factor of alpha at a progress from 0 to 1: constant, rising from 0, falling to 0."""


class DistillationLoss(nn.Module):
    """Total loss: (1 - alpha) * supervised + alpha * sum of weight * loss.

    The supervised loss is computed at the size of the labels, each distillation loss on the teacher's own grid.

    Args:
        supervised: Loss against the labels.
        losses: Distillation losses, by the name under which they are logged.
        alpha: Share of the distillation losses, from 0 to 1.
        alpha_schedule: "constant", "linear" (from 0 to alpha) or "cosine" (from alpha to 0).
        pseudo_labels: Whether the teacher's classes are the labels of unlabelled pixels (self-training: Lee 2013,
            "Pseudo-Label"; Xie et al. 2020, "Self-training with Noisy Student improves ImageNet classification").

    Example:
        >>> import torch
        >>> from segdistill.losses import FocalLoss, ModelOutput, PixelwiseKL
        >>> loss = DistillationLoss(FocalLoss(), {"kl": PixelwiseKL(temperature=2.0)}, alpha=0.5)
        >>> output, target = ModelOutput(torch.zeros(1, 3, 4, 4)), torch.zeros(1, 8, 8, dtype=torch.long)
        >>> sorted(loss(output, output, target))
        ['loss', 'loss_kl', 'loss_supervised']
    """

    def __init__(
        self,
        supervised: SupervisedLoss,
        losses: Mapping[str, LogitLoss | FeatureLoss],
        *,
        alpha: float = 0.5,
        alpha_schedule: str = "constant",
        pseudo_labels: bool = False,
    ) -> None:
        super().__init__()
        self.pseudo_labels = pseudo_labels
        self.supervised, self.losses = supervised, nn.ModuleDict(losses)
        self._alpha, self._schedule = alpha, ALPHA_SCHEDULES[alpha_schedule]

    @property
    def feature_losses(self) -> list[FeatureLoss]:
        """Losses that compare intermediate layers."""
        return [loss for loss in self.losses.values() if isinstance(loss, FeatureLoss)]

    @property
    def teacher_layers(self) -> list[str]:
        """Names of the teacher's modules whose outputs are compared."""
        return [loss.teacher_layer for loss in self.feature_losses]

    def forward(
        self, student: ModelOutput, teacher: ModelOutput, target: Tensor, *, progress: float = 0.0
    ) -> dict[str, Tensor]:
        """Compute every loss and the total.

        Args:
            student: Student outputs, which get the gradient.
            teacher: Teacher outputs, which get no gradient.
            target: Labels int64 [B, H, W]; 255 is void, and unlabelled pixels (254) count in the supervised loss only
                with `pseudo_labels`.
            progress: Progress of the training, from 0 to 1, for alpha's schedule.

        Returns:
            Losses by name: `loss`, the total; `loss_supervised`; `loss_<name>` of every distillation loss, unweighted.
        """
        labels = target
        if self.pseudo_labels:
            labels = with_teachers_classes(target, resized(teacher.logits, target.shape[-2:]))
        labels = labels.where(labels != UNLABELLED, IGNORE_INDEX)
        supervised = self.supervised(resized(student.logits, target.shape[-2:]), labels)
        values = {name: loss(student, teacher, target) for name, loss in self.losses.items()}
        distillation = sum(float(self.losses[name].weight) * value for name, value in values.items())  # type: ignore[arg-type] # a number
        alpha = self.alpha(progress)
        total = (1 - alpha) * supervised + alpha * distillation
        return {"loss": total, "loss_supervised": supervised, **{f"loss_{n}": v for n, v in values.items()}}

    def alpha(self, progress: float) -> float:
        """Return the share of the distillation losses at a progress from 0 to 1."""
        return self._alpha * self._schedule(progress)
