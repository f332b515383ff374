"""LightningModules: training and evaluation steps, logging, and optimizers."""

from segdistill.tasks.distillation import DistillationTask
from segdistill.tasks.segmentation import SegmentationTask

__all__ = ["DistillationTask", "SegmentationTask"]
