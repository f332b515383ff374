"""The weighted sum of the supervised loss and the distillation terms."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from segdistill.losses.functional import pixelwise_kl
from segdistill.losses.supervised import SupervisedLoss
from segdistill.resize import nearest, resized

TERMS = {"kl": pixelwise_kl}


class DistillationLoss:
    """total = (1 - alpha) * supervised + alpha * sum of weight * term.

    The supervised loss is computed at the labels' size, the terms at the teacher's own: resizing its logits would cost
    much time and add nothing that it knows. There the student's logits are resized bilinearly, and a pixel has the
    label at its centre.

    Args:
        supervised: Loss against the labels.
        terms: Weight of each distillation term, by its name in `TERMS`.
        temperature: Of the terms' softmax; the terms carry T^2.
        alpha: From 0, labels only, to 1, teacher only.
    """

    def __init__(
        self, supervised: SupervisedLoss, terms: Mapping[str, float], *, temperature: float, alpha: float
    ) -> None:
        self.supervised, self.terms = supervised, dict(terms)
        self.temperature, self.alpha = temperature, alpha

    def __call__(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Computes every term.

        Args:
            student_logits: [B, C, h, w], of any stride.
            teacher_logits: [B, C, h', w'], of any stride.
            target: int64 [B, H, W], void 255.

        Returns:
            `loss`, the total; `loss_supervised`; and `loss_<term>` of every term, before its weight.
        """
        supervised = self.supervised(resized(student_logits, target.shape[-2:]), target)
        size = teacher_logits.shape[-2:]
        student_logits, target = resized(student_logits, size), nearest(target, size)
        terms = {
            name: TERMS[name](student_logits, teacher_logits, target, temperature=self.temperature)
            for name in self.terms
        }
        distillation = sum(self.terms[name] * value for name, value in terms.items())
        total = (1 - self.alpha) * supervised + self.alpha * distillation
        return {"loss": total, "loss_supervised": supervised, **{f"loss_{n}": v for n, v in terms.items()}}
