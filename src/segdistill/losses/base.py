"""What every distillation loss is: a weighted comparison of two model outputs for one batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from segdistill.config.ranges import require, require_temperature
from segdistill.utils.interpolate import interpolate_labels, interpolate_logits

SupervisedLoss = Callable[[Tensor, Tensor], Tensor]
"""(logits [B, C, H, W], target int64 [B, H, W]) -> scalar."""


@runtime_checkable
class NeedsClassPixels(Protocol):
    """A supervised loss that depends on how often each class occurs in the training split."""

    def set_class_pixels(self, pixels: Tensor) -> None:
        """Take the number of training pixels of each class, int64 [C]."""


@dataclass(frozen=True)
class ModelOutput:
    """Model outputs for one batch.

    Attributes:
        logits: [B, C, h, w], of any stride.
        features: Outputs [B, C', h', w'] of the captured layers, by module name.
    """

    logits: Tensor
    features: Mapping[str, Tensor] = field(default_factory=dict)


class _DistillationTerm(nn.Module, ABC):
    """A loss between student and teacher with its weight in the sum."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        require(weight > 0, "weight", weight, "must be above 0")
        self.weight = weight

    @abstractmethod
    def forward(self, student: ModelOutput, teacher: ModelOutput, target: Tensor) -> Tensor:
        """Compute the loss, before its weight.

        Args:
            student: Gets the gradient.
            teacher: Gets none.
            target: int64 [B, H, W] at the images' size, void 255.

        Returns:
            Scalar.
        """


class LogitLoss(_DistillationTerm):
    """Base of losses between logits, computed on the teacher's own grid.

    Resizing the teacher's logits would cost much time and add nothing that it knows. The student's are resized
    bilinearly, and a pixel has the label at its centre.

    Args:
        weight: Of this loss in the sum.
        temperature: T > 0 of the softmax.

    Raises:
        ConfigError: If a value is out of its range.
    """

    def __init__(self, *, weight: float = 1.0, temperature: float = 1.0) -> None:
        super().__init__(weight)
        require_temperature("temperature", temperature)
        self.temperature = temperature

    def forward(self, student: ModelOutput, teacher: ModelOutput, target: Tensor) -> Tensor:
        """Bring the student's logits and the labels to the teacher's grid, and compare."""
        grid = teacher.logits.shape[-2:]
        logits = interpolate_logits(student.logits, grid)
        return self.compare(logits, teacher.logits, interpolate_labels(target, grid))

    @abstractmethod
    def compare(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of logits [B, C, h, w] and labels int64 [B, h, w] on one grid."""


class FeatureLoss(_DistillationTerm):
    """Base of losses between feature maps, computed on the teacher's own grid.

    Args:
        student_layer: Name of the student's module whose output is compared, as in `named_modules()`.
        teacher_layer: The same of the teacher.
        weight: Of this loss in the sum.

    Attributes:
        projector: From the student's channels to the teacher's; trained with the student, and never exported.
    """

    def __init__(self, student_layer: str, teacher_layer: str, *, weight: float = 1.0) -> None:
        super().__init__(weight)
        self.student_layer, self.teacher_layer = student_layer, teacher_layer
        self.projector: nn.Module = nn.Identity()

    def build_projector(self, student_channels: int, teacher_channels: int) -> None:
        """Make the projector, once the layers' channels are known; none by default."""

    def forward(self, student: ModelOutput, teacher: ModelOutput, target: Tensor) -> Tensor:
        """Bring the student's features and the labels to the teacher's grid, and compare."""
        expected = teacher.features[self.teacher_layer]
        grid = expected.shape[-2:]
        features = interpolate_logits(self.projector(student.features[self.student_layer]), grid)
        return self.compare(features, expected, interpolate_labels(target, grid))

    @abstractmethod
    def compare(self, student_features: Tensor, teacher_features: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of features [B, C, h, w] and labels int64 [B, h, w] on one grid."""
