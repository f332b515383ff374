"""LightningModules: what a step computes, what is logged, which optimizer."""

from segdistill.tasks.distillation import DistillationTask
from segdistill.tasks.segmentation import SegmentationTask

__all__ = ["DistillationTask", "SegmentationTask"]
