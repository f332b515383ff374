"""The weighted sum of the supervised loss and the distillation terms."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from segdistill.config.schema import DistillConfig, TermConfig
from segdistill.losses.functional import (
    attention_transfer,
    boundary_kl,
    channelwise_kl,
    dist,
    hint_loss,
    pixelwise_kl,
)
from segdistill.losses.supervised import SupervisedLoss
from segdistill.utils.interpolate import interpolate_labels, interpolate_logits, resized

LOGIT_TERMS: dict[str, Callable[..., Tensor]] = {
    "kl": pixelwise_kl,
    "cwd": channelwise_kl,
    "dist": dist,
    "boundary": boundary_kl,
}
"""(student_logits, teacher_logits, target, temperature=) -> scalar."""
FEATURE_TERMS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "features": hint_loss,
    "attention": attention_transfer,
}
"""(student_features, teacher_features, target) -> scalar."""
ADAPTED = "features"
"""The term that compares channel by channel, and learns which of the student's are which."""
ALPHA_SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: progress,
    "cosine": lambda progress: (1 + math.cos(math.pi * progress)) / 2,
}
"""Share of alpha at a progress from 0 to 1: kept, raised from 0, lowered to 0."""


@dataclass(frozen=True)
class ModelOutput:
    """What a network says of a batch.

    Attributes:
        logits: [B, C, h, w], of any stride.
        features: Outputs [B, C', h', w'] of the modules that are capture_features, by module name.
    """

    logits: Tensor
    features: Mapping[str, Tensor] = field(default_factory=dict)


class DistillationLoss(nn.Module):
    """total = (1 - alpha) * supervised + alpha * sum of weight * term.

    The supervised loss is computed at the labels' size, each term on the teacher's own grid: resizing what it says
    would cost much time and add nothing that it knows. There the student's maps are resized bilinearly, and a pixel
    has the label at its centre.

    Args:
        supervised: Loss against the labels.
        config: Terms, temperature, alpha and its schedule.
        channels: Of the modules that the `features` term taps, (student's, teacher's).

    Attributes:
        adapter: 1 x 1 convolution from the student's channels to the teacher's; trained, and never exported.
    """

    def __init__(
        self, supervised: SupervisedLoss, config: DistillConfig, channels: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        self.supervised, self.config = supervised, config
        self.adapter = None if channels is None else nn.Conv2d(*channels, 1, bias=False)

    def forward(
        self, student: ModelOutput, teacher: ModelOutput, target: Tensor, *, progress: float = 0.0
    ) -> dict[str, Tensor]:
        """Computes every term.

        Args:
            student: Gets the gradient.
            teacher: Gets none.
            target: int64 [B, H, W], void 255.
            progress: Of the training, from 0 to 1, which alpha's schedule follows.

        Returns:
            `loss`, the total; `loss_supervised`; and `loss_<term>` of every term, before its weight.
        """
        supervised = self.supervised(resized(student.logits, target.shape[-2:]), target)
        terms = {name: self._term(name, term, student, teacher, target) for name, term in self.config.terms.items()}
        distillation = sum(self.config.terms[name].weight * value for name, value in terms.items())
        alpha = self.alpha(progress)
        total = (1 - alpha) * supervised + alpha * distillation
        return {"loss": total, "loss_supervised": supervised, **{f"loss_{n}": v for n, v in terms.items()}}

    def alpha(self, progress: float) -> float:
        """Returns the terms' share at a progress from 0 to 1."""
        return self.config.alpha * ALPHA_SCHEDULES[self.config.alpha_schedule](progress)

    def _term(self, name: str, term: TermConfig, student: ModelOutput, teacher: ModelOutput, target: Tensor) -> Tensor:
        if name in LOGIT_TERMS:
            grid = teacher.logits.shape[-2:]
            temperature = self.config.temperature if term.temperature is None else term.temperature
            logits = interpolate_logits(student.logits, grid), teacher.logits
            return LOGIT_TERMS[name](*logits, interpolate_labels(target, grid), temperature=temperature)
        learnt, known = student.features[str(term.student)], teacher.features[str(term.teacher)]
        if name == ADAPTED and self.adapter is not None:
            learnt = self.adapter(learnt)
        grid = known.shape[-2:]
        return FEATURE_TERMS[name](interpolate_logits(learnt, grid), known, interpolate_labels(target, grid))
