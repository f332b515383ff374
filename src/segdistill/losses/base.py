"""Base classes of distillation losses: weighted comparisons of two model outputs for one batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from segdistill.config.ranges import require, require_temperature
from segdistill.utils.interpolate import interpolate_labels, interpolate_logits

SupervisedLoss = Callable[[Tensor, Tensor], Tensor]
"""Supervised loss: (logits [B, C, H, W], target int64 [B, H, W]) -> scalar."""


@runtime_checkable
class NeedsClassPixels(Protocol):
    """A supervised loss that depends on how often each class occurs in the training split."""

    def set_class_pixels(self, pixels: Tensor) -> None:
        """Receive the number of training pixels of each class, int64 [C]."""


@dataclass(frozen=True)
class ModelOutput:
    """Model outputs for one batch.

    Attributes:
        logits: Class logits [B, C, h, w], at any stride.
        features: Outputs [B, C', h', w'] of the captured layers, by module name.
    """

    logits: Tensor
    features: Mapping[str, Tensor] = field(default_factory=dict)


class _DistillationTerm(nn.Module, ABC):
    """A loss between student and teacher, with its weight in the total."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        require(weight > 0, "weight", weight, "must be above 0")
        self.weight = weight

    @abstractmethod
    def forward(self, student: ModelOutput, teacher: ModelOutput, target: Tensor) -> Tensor:
        """Compute the loss, before its weight is applied.

        Args:
            student: Student outputs, which get the gradient.
            teacher: Teacher outputs, which get no gradient.
            target: Labels int64 [B, H, W] at the size of the images; 255 is void.

        Returns:
            Scalar.
        """


class LogitLoss(_DistillationTerm):
    """Base class of losses between logits, computed on the teacher's own grid.

    Resizing the teacher's logits would be slow and add no information. The student's logits are resized bilinearly, and
    each pixel takes the label at its centre.

    Args:
        weight: Weight of this loss in the total.
        temperature: Temperature T > 0 of the softmax.

    Raises:
        ConfigError: If a value is out of range.
    """

    def __init__(self, *, weight: float = 1.0, temperature: float = 1.0) -> None:
        super().__init__(weight)
        require_temperature("temperature", temperature)
        self.temperature = temperature

    def forward(self, student: ModelOutput, teacher: ModelOutput, target: Tensor) -> Tensor:
        """Resize the student's logits and the labels to the teacher's grid, and compare."""
        grid = teacher.logits.shape[-2:]
        logits = interpolate_logits(student.logits, grid)
        return self.compare(logits, teacher.logits, interpolate_labels(target, grid))

    @abstractmethod
    def compare(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of logits [B, C, h, w] and labels int64 [B, h, w] on one grid."""


class FeatureLoss(_DistillationTerm):
    """Base class of losses between feature maps, computed on the teacher's own grid.

    Args:
        student_layer: Name of the student's module whose output is compared, as in `named_modules()`.
        teacher_layer: Name of the teacher's module whose output is compared.
        weight: Weight of this loss in the total.

    Attributes:
        projector: Module from the student's channels to the teacher's; trained with the student, but never exported.
    """

    def __init__(self, student_layer: str, teacher_layer: str, *, weight: float = 1.0) -> None:
        super().__init__(weight)
        self.student_layer, self.teacher_layer = student_layer, teacher_layer
        self.projector: nn.Module = nn.Identity()

    def build_projector(self, student_channels: int, teacher_channels: int) -> None:
        """Build the projector once the layers' channels are known; by default it stays the identity."""

    def forward(self, student: ModelOutput, teacher: ModelOutput, target: Tensor) -> Tensor:
        """Project the student's features, resize them and the labels to the teacher's grid, and compare."""
        expected = teacher.features[self.teacher_layer]
        grid = expected.shape[-2:]
        features = interpolate_logits(self.projector(student.features[self.student_layer]), grid)
        return self.compare(features, expected, interpolate_labels(target, grid))

    @abstractmethod
    def compare(self, student_features: Tensor, teacher_features: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of features [B, C, h, w] and labels int64 [B, h, w] on one grid."""
