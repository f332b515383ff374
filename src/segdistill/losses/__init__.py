"""What a network is trained on: losses against labels and against a teacher."""

from segdistill.losses.distillation import DistillationLoss
from segdistill.losses.supervised import supervised_loss

__all__ = ["DistillationLoss", "supervised_loss"]
