"""DistillationTask: a frozen teacher beside the student that is trained."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from segdistill.data.datamodule import Batch
from segdistill.losses import DistillationLoss, ModelOutput
from segdistill.metrics import SegmentationMetrics
from segdistill.models.feature_hooks import capture_features
from segdistill.models.frozen_teacher import FrozenTeacher
from segdistill.models.output import cell_multiple, lowres_logits
from segdistill.tasks.segmentation import SegmentationTask
from segdistill.utils.interpolate import pad_mask, pad_to_cells


class DistillationTask(SegmentationTask):
    """Trains a student on labels and on its teacher's logits.

    Checkpoints and optimizer hold the student, and the projector of a feature loss, but never the teacher.

    Args:
        student: As `network` of SegmentationTask.
        teacher: Never trained, never saved.
        distillation: Weighs the supervised loss against the distillation terms.
        kwargs: Passed on to SegmentationTask.
    """

    def __init__(
        self, student: nn.Module, teacher: FrozenTeacher, distillation: DistillationLoss, **kwargs: Any
    ) -> None:
        super().__init__(student, loss=distillation.supervised, role="student", **kwargs)
        self.teacher, self.distillation = teacher, distillation
        self.teacher_metrics = SegmentationMetrics(len(self.class_names))
        self.progress = 0.0
        self.cell_multiple = cell_multiple(student, teacher.network)
        self.student_layers = [loss.student_layer for loss in distillation.feature_losses]

    @property
    def networks(self) -> dict[str, nn.Module]:
        """Teacher and student."""
        return {"teacher": self.teacher.network, **super().networks}

    def on_fit_start(self) -> None:
        """Puts the teacher where the student is; Lightning moves only what it may train."""
        self.teacher.to(self.device, self.memory_format)

    def on_test_start(self) -> None:
        """The same once more: a test may follow without a fit."""
        self.teacher.to(self.device, self.memory_format)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Counts a batch for both networks."""
        super().test_step(batch, batch_idx)
        logits = self.teacher.network(self.to_memory_format(batch["image"]))
        self.teacher_metrics.update(logits, batch["mask"])

    def on_test_epoch_end(self) -> None:
        """Logs `test/miou` and its companions, and `test/teacher_miou` and its own."""
        super().on_test_epoch_end()
        self.log_scores("test/teacher_", self.teacher_metrics)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Follows the training, for alpha's schedule."""
        self.progress = self.global_step / max(1, int(self.trainer.estimated_stepping_batches))
        self.log("train/alpha", self.distillation.alpha(self.progress))

    def compute_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the supervised loss, every distillation loss, and their weighted sum.

        Images are padded to whole cells, and their masks with void, so that the logits of both networks cover the same.

        Args:
            batch: Where it has `teacher_logits`, the teacher is not run.
        """
        image = self.to_memory_format(pad_to_cells(batch["image"], self.cell_multiple))
        target = pad_mask(batch["mask"], self.cell_multiple)
        with capture_features(self.network, self.student_layers) as features:
            student = ModelOutput(lowres_logits(self.network, image), features)
        cached = batch.get("teacher_logits")
        teacher = ModelOutput(*self.teacher(image)) if cached is None else ModelOutput(cached)
        losses: dict[str, Tensor] = self.distillation(student, teacher, target, progress=self.progress)
        return losses
