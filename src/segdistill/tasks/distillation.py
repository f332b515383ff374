"""DistillationTask: train a student with a frozen teacher."""

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
from segdistill.tasks.tiled_eval import eval_parts
from segdistill.utils.interpolate import pad_mask, pad_to_cells


class DistillationTask(SegmentationTask):
    """LightningModule that trains a student on labels and on its teacher's logits, and scores both.

    Without distillation losses it learns from labels alone, and the teacher is only what it is compared with.
    Checkpoints and optimizer contain the student and the projectors of feature losses, but never the teacher.

    Args:
        student: Student network; see `network` of SegmentationTask.
        teacher: Frozen teacher, which is neither trained nor saved.
        distillation: Weighted sum of the supervised loss and the distillation losses.
        kwargs: Further arguments of SegmentationTask.
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
        """Teacher and student, by role."""
        return {"teacher": self.teacher.network, **super().networks}

    def on_fit_start(self) -> None:
        """Move the teacher to the student's device; Lightning moves only registered modules."""
        self.teacher.to(self.device, self.memory_format)

    def on_test_start(self) -> None:
        """Move the teacher here as well, because a test may run without a fit."""
        self.teacher.to(self.device, self.memory_format)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Update the metrics of both networks."""
        super().test_step(batch, batch_idx)
        for image, target in eval_parts(batch, self.tiling):
            self.teacher_metrics.update(self.teacher.network(self.to_memory_format(image)), target)

    def on_test_epoch_end(self) -> None:
        """Log `test/miou` and related metrics of the student, and those of the teacher as `test/teacher_*`."""
        super().on_test_epoch_end()
        self.log_scores("test/teacher_", self.teacher_metrics)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Update the training progress, which alpha's schedule follows, and log alpha."""
        if not self.distillation.losses:
            return
        self.progress = self.global_step / max(1, int(self.trainer.estimated_stepping_batches))
        self.log("train/alpha", self.distillation.alpha(self.progress))

    def compute_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the supervised loss, every distillation loss, and their weighted sum.

        Images are padded to whole cells, and masks with void, so that the logits of both networks cover the same area.

        Args:
            batch: Batch of images and masks; if it has `teacher_logits`, the teacher is not run.
        """
        if not self.distillation.losses:
            return super().compute_losses(batch)
        image = self.to_memory_format(pad_to_cells(batch["image"], self.cell_multiple))
        target = pad_mask(batch["mask"], self.cell_multiple)
        with capture_features(self.network, self.student_layers) as features:
            student = ModelOutput(lowres_logits(self.network, image), features)
        cached = batch.get("teacher_logits")
        teacher = ModelOutput(*self.teacher(image)) if cached is None else ModelOutput(cached)
        losses: dict[str, Tensor] = self.distillation(student, teacher, target, progress=self.progress)
        return losses
